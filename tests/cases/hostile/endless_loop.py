# expect: unknown
while True:
    pass
