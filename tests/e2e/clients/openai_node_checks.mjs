// Checks that run with an unmodified openai-node. Usage: node openai_node_checks.mjs BASE_URL MODEL SLOW_MODEL.
// Prints one JSON object: each check's name, and null or the trace of its failure.
import assert from "node:assert/strict";
import OpenAI, { toFile } from "openai";

const [baseURL, model, slowModel] = process.argv.slice(2);
const text = "Every word comes back, in order: äöü 漢字 🙂";
const client = new OpenAI({ baseURL: `${baseURL}/v1`, apiKey: "unused", maxRetries: 0 });
const messages = [{ role: "user", content: text }];
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

async function until(ask, isSo) {
  for (let turn = 0; turn < 300; turn += 1) {
    const found = await ask();
    if (isSo(found)) return found;
    await pause(100);
  }
  throw new Error("it never was so");
}

const checks = {
  async chat() {
    const answer = await client.chat.completions.create({ model, messages });
    assert.equal(answer.choices[0].message.content, text);
    assert.match(answer._request_id, /^req_/);
  },

  async stream() {
    let said = "";
    for await (const chunk of await client.chat.completions.create({ model, messages, stream: true })) {
      said += chunk.choices[0]?.delta?.content ?? "";
    }
    assert.equal(said, text);
  },

  async completion() {
    const answer = await client.completions.create({ model, prompt: text });
    assert.equal(answer.choices[0].text, text);
  },

  async models() {
    const names = [];
    for await (const each of client.models.list()) names.push(each.id);
    assert.ok(names.includes(model));
    assert.equal((await client.models.retrieve(slowModel)).id, slowModel);
  },

  async errors() {
    const unknown = client.chat.completions.create({ model: "nobody", messages });
    await assert.rejects(unknown, (error) => {
      assert.ok(error instanceof OpenAI.NotFoundError);
      assert.equal(error.code, "model_not_found");
      assert.ok(error.requestID);
      return true;
    });
    await assert.rejects(client.chat.completions.create({ model, messages: [] }), OpenAI.BadRequestError);
  },

  async response() {
    const answer = await client.responses.create({ model, input: text });
    assert.equal(answer.status, "completed");
    assert.equal(answer.output_text, text);
  },

  async responseStream() {
    const kinds = [];
    let said = "";
    for await (const event of await client.responses.create({ model, input: text, stream: true })) {
      assert.equal(event.sequence_number, kinds.length);
      kinds.push(event.type);
      if (event.type === "response.output_text.delta") said += event.delta;
    }
    assert.equal(said, text);
    assert.equal(kinds[0], "response.created");
    assert.equal(kinds.at(-1), "response.completed");
  },

  async background() {
    const begun = await client.responses.create({ model, input: text, background: true });
    assert.equal(begun.status, "queued");
    const done = await until(
      () => client.responses.retrieve(begun.id),
      (found) => !["queued", "in_progress"].includes(found.status),
    );
    assert.equal(done.status, "completed");
    await client.responses.delete(begun.id);
    await assert.rejects(client.responses.retrieve(begun.id), OpenAI.NotFoundError);
  },

  async batch() {
    const lines = [1, 2, 3].map((number) =>
      JSON.stringify({
        custom_id: `line-${number}`,
        method: "POST",
        url: "/v1/chat/completions",
        body: { model, messages: [{ role: "user", content: `question ${number}` }] },
      }),
    );
    const upload = await toFile(Buffer.from(lines.join("\n")), "questions.jsonl");
    const file = await client.files.create({ file: upload, purpose: "batch" });
    const begun = await client.batches.create({
      input_file_id: file.id,
      endpoint: "/v1/chat/completions",
      completion_window: "24h",
    });
    const done = await until(
      () => client.batches.retrieve(begun.id),
      (found) => found.status === "completed",
    );
    assert.deepEqual({ ...done.request_counts }, { total: 3, completed: 3, failed: 0 });
    const output = await (await client.files.content(done.output_file_id)).text();
    const names = output.trim().split("\n").map((line) => JSON.parse(line).custom_id);
    assert.deepEqual(names.sort(), ["line-1", "line-2", "line-3"]);
  },
};

const report = {};
for (const [name, check] of Object.entries(checks)) {
  try {
    await check();
    report[name] = null;
  } catch (error) {
    report[name] = error.stack;
  }
}
console.log(JSON.stringify(report));
