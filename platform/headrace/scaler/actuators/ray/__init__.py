"""The `ray` actuator: each worker is an actor with GPUs of its own on a Ray cluster.

The scaler (`actuator`, `mirror`) has a child process that is connected with the cluster (`bridge`, `driver`),
for Ray ends a process whose cluster is lost. All orders go through one detached actor (`ledger`), which
refuses those of earlier scalers, remembers what was ordered (`book`), and sees each end. A worker is a child
process of its actor (`worker`), so that its exit code and journal can be read. Only `driver`, `ledger` and
`worker` need Ray.
"""
