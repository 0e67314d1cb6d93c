"""The `kubernetes` actuator: workers as pods, one Deployment for each version of a model.

`cluster` talks to the API server, `follower` keeps up with it, `writer` changes it; the rest does no IO.
"""
