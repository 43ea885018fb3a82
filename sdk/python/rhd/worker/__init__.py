"""The process that runs users' code for a daemon: `python -m rhd.worker`.

```text
daemon --call lane-->  lane.Lane       one call at a time, on one thread: read, run, write
       --shared----->  shared.Shared   the same for brief calls: many on one lane, few threads
       --control---->  control.Control orders; coroutines and async generators on one event loop
                          |
           targets.bind: the function, method or attribute that a call means
           loader.load:  code into this process, old versions out of it
           output:       stdout and stderr of a call, as frames on the lane of that call
```
"""
