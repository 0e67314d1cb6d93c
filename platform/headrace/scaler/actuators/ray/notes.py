"""Why an actor waits, in words. Pure."""

from collections.abc import Mapping, Sequence

from headrace.scaler.actuators.ray.messages import Needs


def why_waiting(needs: Needs, nodes: Sequence[Mapping[str, float]], free: Mapping[str, float]) -> str:
    """What a worker that is not placed lacks; empty when that cannot be told.

    nodes: what each living node has of each resource; free: what the cluster has left of each.
    """
    wanted = {"GPU": needs.num_gpus, "CPU": needs.num_cpus, **needs.resources}
    wanted = {name: number for name, number in wanted.items() if number}
    fitting = [node for node in nodes if all(node.get(name, 0) >= number for name, number in wanted.items())]
    if not fitting:
        listed = " and ".join(f"{number:g} {name}" for name, number in wanted.items())
        return f"no node of the Ray cluster has {listed}"
    lacking = [
        f"{number:g} {name} ({free.get(name, 0):g} of {sum(node.get(name, 0) for node in nodes):g} free)"
        for name, number in wanted.items()
        if free.get(name, 0) < number
    ]
    return f"waits for {' and '.join(lacking)}" if lacking else ""
