"""What runs a model inside a worker; the only room that imports torch, vllm, xllamacpp or onnxruntime."""
