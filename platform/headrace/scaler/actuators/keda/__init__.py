"""The actuator `keda`: KEDA asks how many workers there are to be, and its HPA makes and ends their pods."""
