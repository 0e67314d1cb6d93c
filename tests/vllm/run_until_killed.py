"""A process with an engine, which says when it serves and then waits for its end."""

import asyncio

from tests.vllm.parts import create, model


async def main() -> None:
    engine = create(model())
    await engine.start()
    print("serving", flush=True)
    await asyncio.sleep(600)


if __name__ == "__main__":
    asyncio.run(main())
