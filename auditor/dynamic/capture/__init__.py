"""What is measured inside the sandboxed process while a whole script runs.

`auditor.dynamic.capture.session` is the hook that the device's entry installs before the script;
its settings, all optional:

    keep         values kept of each place in the script, the latest ones
    validation   names of the validation shards (base names, with wildcards)
    training     names of the training shards
    later        {path of a written file: {path: as in variants}}, before it is first read back
    reserved     seconds of the run's time in which no variant is to run
    variants     forks of the run: [{"name", "at": "training" | "validation" | "data", the
                 first of both | "artifact", "files": {path: path of what lies there instead, or
                 null to remove it},
                 "later": {path of a written file: such changes, before it is first read back}}]
    pokes        [{"site": [path, line, kind, at], "after": n, "step": number of a weight change
                 that takes the place of `after`, "until": m, "stream": path of a shard, "index": j,
                 "values": [tokens], "known": [[token, loss]], "counted": n, "value": k,
                 "scale": x, "masked": bool}]: see `pokes`
    fallback     such pokes, without `after`, in case that a known loss comes out otherwise

Results, by variant (see `device.run`): `session.json` and `values`, which `record.unpack` reads;
`losses.json` of a poke; from the run itself also `artifact`, the largest file that the script wrote
and read back.

Everything here can be undone by the script that it watches: what it tells is evidence, no proof.
What a run prints, and the files it is given, are judged outside.
"""
