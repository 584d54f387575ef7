// clients.mjs - the official openai package against a running server.
//
// GANTRY_URL is the server, GANTRY_TOOLS_URL one whose model answers "both" with a text and two
// tool calls, GANTRY_OPENAPI the folder of OpenAI's description (optional).
// Prints "ok NAME" or "FAIL NAME: why" per check and ends with status 1 when one failed.
import assert from "node:assert/strict";
import fs from "node:fs";
import OpenAI from "openai";

const url = process.env.GANTRY_URL;
const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: "none", maxRetries: 0 });
const toolsUrl = process.env.GANTRY_TOOLS_URL;
const toolsClient = new OpenAI({ baseURL: `${toolsUrl}/v1`, apiKey: "none", maxRetries: 0 });
const model = "tiny";
const messages = [{ role: "user", content: "Tell me a story" }];
const parameters = { type: "object", properties: { lake: { type: "string" } } };
const tools = ["depth", "width"].map((name) => ({ type: "function", function: { name, parameters } }));
const both = { model: "hermes", messages: [{ role: "user", content: "both" }], tools, temperature: 0 };
const endless = { ignore_eos: true }; // an extension, so that lengths are certain

async function metric(name) {
  const page = await (await fetch(`${url}/metrics`)).text();
  const lines = page.split("\n").filter((line) => line.startsWith(`gantry_${name}`));
  assert.notEqual(lines.length, 0, `no metric ${name}`);
  return lines.reduce((sum, line) => sum + Number(line.split(" ").at(-1)), 0);
}

async function idle() {
  const busy = ["requests_running", "sequences_running", "sequences_waiting", "kv_blocks_used"];
  for (let tries = 0; tries < 200; tries++) {
    await new Promise((resolve) => setTimeout(resolve, 150)); // longer than a heartbeat
    const values = await Promise.all(busy.map(metric));
    if (values.every((value) => value === 0)) return;
  }
  assert.fail("the server does not come to rest");
}

async function fails(promise, type, code) {
  try {
    await promise;
  } catch (error) {
    assert.ok(error instanceof type, `${error.constructor.name}, want ${type.name}`);
    assert.equal(error.code, code);
    return error;
  }
  assert.fail(`no ${type.name}`);
}

// --- OpenAI's own description, when it and a validator are there -----------------------------

// The document is OpenAPI 3.1 but says "nullable" in the way of 3.0.
function repair(node) {
  if (node === null || typeof node !== "object") return node;
  if (Array.isArray(node)) return node.map(repair);
  const { nullable, ...rest } = node;
  const out = Object.fromEntries(Object.entries(rest).map(([key, value]) => [key, repair(value)]));
  return nullable === true ? { anyOf: [out, { type: "null" }] } : out;
}

async function validator() {
  const file = `${process.env.GANTRY_OPENAPI}/openapi.yaml`;
  if (!fs.existsSync(file)) return null;
  const yaml = await import("js-yaml").catch(() => null);
  const ajv = await import("ajv/dist/2020.js").catch(() => null);
  if (yaml === null || ajv === null) return null;
  const document = yaml.load(fs.readFileSync(file, "utf8"));
  const Ajv = ajv.default.default ?? ajv.default;
  const checker = new Ajv({ strict: false, validateFormats: false, discriminator: false });
  checker.addSchema({ $id: "openapi", components: repair(document.components) });
  return (name, value) => {
    const schema = checker.getSchema(`openapi#/components/schemas/${name}`);
    assert.ok(schema(value), `${name}: ${checker.errorsText(schema.errors)}`);
  };
}

function checkCalls({ message, finish_reason }) {
  assert.equal(finish_reason, "tool_calls");
  assert.equal(message.content, "Let me look.");
  const calls = message.tool_calls.map((call) => [call.type, call.function.name]);
  assert.deepEqual(calls, [["function", "depth"], ["function", "width"]]);
  const values = message.tool_calls.map((call) => JSON.parse(call.function.arguments));
  assert.deepEqual(values, [{ lake: "Inari", unit: "m" }, {}]);
  assert.equal(new Set(message.tool_calls.map((call) => call.id)).size, 2);
}

// --- checks -------------------------------------------------------------------------------------

const checks = {
  async models_are_listed() {
    const names = [];
    for await (const one of await client.models.list()) names.push(one.id);
    assert.deepEqual(names, [model]);
    assert.equal((await client.models.retrieve(model)).object, "model");
  },

  async chat_answers() {
    const body = { model, messages, max_tokens: 8, ...endless };
    const done = await client.chat.completions.create(body);
    assert.equal(done.choices[0].message.role, "assistant");
    assert.equal(done.choices[0].finish_reason, "length");
    assert.equal(done.usage.completion_tokens, 8);
  },

  async chat_streams_the_same_text() {
    const body = { model, messages, max_tokens: 60, seed: 3 };
    const plain = await client.chat.completions.create(body);
    let text = "";
    for await (const chunk of await client.chat.completions.create({ ...body, stream: true }))
      text += chunk.choices[0]?.delta?.content ?? "";
    assert.equal(text, plain.choices[0].message.content);
  },

  async the_stream_helper_puts_the_answer_together() {
    const body = { model, messages, max_tokens: 20, seed: 4 };
    const plain = await client.chat.completions.create(body);
    const whole = await client.chat.completions.stream(body).finalChatCompletion();
    assert.equal(whole.choices[0].message.content, plain.choices[0].message.content);
    assert.equal(whole.choices[0].finish_reason, plain.choices[0].finish_reason);
  },

  async an_abort_in_the_middle_frees_everything() {
    const body = { model, messages, stream: true, max_tokens: 1500, ...endless };
    const stream = await client.chat.completions.create(body);
    let chunks = 0;
    for await (const _ of stream) if (++chunks === 5) stream.controller.abort();
    assert.ok(chunks < 1000, "the stream went on");
    await idle();
  },

  async usage_comes_with_the_stream() {
    const body = { model, messages, max_tokens: 9, seed: 1, ...endless };
    const stream = await client.chat.completions.create({
      ...body,
      stream: true,
      stream_options: { include_usage: true },
    });
    let usage = null;
    for await (const chunk of stream) usage = chunk.usage ?? usage;
    assert.equal(usage.completion_tokens, 9);
    assert.equal(usage.total_tokens, usage.prompt_tokens + 9);
  },

  async log_probabilities_come() {
    const body = { model, messages, max_tokens: 6, logprobs: true, top_logprobs: 3 };
    const done = await client.chat.completions.create({ ...body, ...endless });
    const content = done.choices[0].logprobs.content;
    assert.equal(content.length, 6);
    for (const entry of content) assert.equal(entry.top_logprobs.length, 3);
  },

  async several_choices_come() {
    const body = { model, messages, max_tokens: 20, n: 2, seed: 6, temperature: 1.5 };
    const done = await client.chat.completions.create(body);
    assert.deepEqual(done.choices.map((choice) => choice.index), [0, 1]);
    assert.notEqual(done.choices[0].message.content, done.choices[1].message.content);
  },

  async completions_answer_and_stream() {
    const body = { model, prompt: ["Once", "A dog"], max_tokens: 15, seed: 2 };
    const plain = await client.completions.create(body);
    const texts = ["", ""];
    for await (const chunk of await client.completions.create({ ...body, stream: true }))
      for (const choice of chunk.choices) texts[choice.index] += choice.text;
    assert.deepEqual(texts, plain.choices.map((choice) => choice.text));
  },

  async embeddings_are_the_same_in_both_encodings() {
    // without an encoding the package asks for base64 and decodes it
    const input = ["Once upon a time", "A dog", "A dog"];
    const packed = await client.embeddings.create({ model, input });
    const plain = await client.embeddings.create({ model, input, encoding_format: "float" });
    assert.deepEqual(packed.data.map((row) => row.index), [0, 1, 2]);
    for (const [i, row] of packed.data.entries()) {
      assert.deepEqual([...row.embedding], plain.data[i].embedding.map(Math.fround));
      const length = Math.hypot(...row.embedding);
      assert.ok(Math.abs(length - 1) < 1e-5, `length ${length}`);
    }
    assert.deepEqual(plain.data[1].embedding, plain.data[2].embedding);
    assert.notDeepEqual(plain.data[0].embedding, plain.data[1].embedding);
    assert.equal(packed.usage.total_tokens, packed.usage.prompt_tokens);
  },

  async embeddings_take_ids_and_fewer_dimensions() {
    const input = [1, 5, 9, 20];
    const whole = (await client.embeddings.create({ model, input })).data[0].embedding;
    const create = { model, input: [input, input], dimensions: 8, encoding_format: "float" };
    const rows = (await client.embeddings.create(create)).data;
    const length = Math.hypot(...whole.slice(0, 8));
    for (const row of rows) {
      assert.equal(row.embedding.length, 8);
      for (const [i, value] of row.embedding.entries())
        assert.ok(Math.abs(value - whole[i] / length) < 1e-5, `value ${i}`);
    }
    const many = client.embeddings.create({ model, input, dimensions: whole.length + 1 });
    const error = await fails(many, OpenAI.BadRequestError, "invalid_value");
    assert.equal(error.param, "dimensions");
  },

  async a_prompt_that_is_too_long_is_a_bad_request() {
    const long = [{ role: "user", content: "word ".repeat(5000) }];
    const create = (more) => client.chat.completions.create({ model, messages: long, ...more });
    await fails(create({}), OpenAI.BadRequestError, "context_length_exceeded");
    await fails(create({ stream: true }), OpenAI.BadRequestError, "context_length_exceeded");
    const embed = client.embeddings.create({ model, input: ["a", "word ".repeat(5000)] });
    await fails(embed, OpenAI.BadRequestError, "context_length_exceeded");
  },

  async a_wrong_field_is_a_bad_request_that_names_it() {
    const create = client.chat.completions.create({ model, messages, temperature: -1 });
    const error = await fails(create, OpenAI.BadRequestError, "invalid_value");
    assert.equal(error.param, "temperature");
    assert.ok(error.requestID, "no request id");
  },

  async an_unknown_model_is_not_found() {
    const create = client.chat.completions.create({ model: "other", messages });
    await fails(create, OpenAI.NotFoundError, "model_not_found");
    await fails(client.models.retrieve("other"), OpenAI.NotFoundError, "model_not_found");
  },

  async answers_fit_openais_own_description() {
    const valid = await validator();
    if (valid === null) return "no description or no validator";
    const post = async (path, more) => {
      const body = JSON.stringify({ model, max_tokens: 6, ...more });
      const headers = { "Content-Type": "application/json" };
      return (await fetch(`${url}/v1/${path}`, { method: "POST", headers, body })).text();
    };
    const chunks = (text) =>
      text.split("\n\n").slice(0, -2).map((event) => JSON.parse(event.slice("data: ".length)));
    const usage = { stream: true, stream_options: { include_usage: true } };
    for (const more of [{}, { n: 2 }, { logprobs: true, top_logprobs: 2 }]) {
      const chat = (extra) => post("chat/completions", { messages, ...more, ...extra });
      valid("CreateChatCompletionResponse", JSON.parse(await chat({})));
      for (const chunk of chunks(await chat(usage)))
        valid("CreateChatCompletionStreamResponse", chunk);
    }
    for (const more of [{}, { logprobs: 2 }, { prompt: ["a", "b"] }]) {
      const complete = (extra) => post("completions", { prompt: "x", ...more, ...extra });
      valid("CreateCompletionResponse", JSON.parse(await complete({})));
      // chunks have the same form, but for a reason that is null until the end
      for (const chunk of chunks(await complete({ stream: true })))
        if (chunk.choices.every((c) => c.finish_reason)) valid("CreateCompletionResponse", chunk);
    }
    for (const more of [{}, { encoding_format: "float" }, { dimensions: 4, input: [1, 2] }])
      valid("CreateEmbeddingResponse", JSON.parse(await post("embeddings", { input: "x", ...more })));
    valid("ListModelsResponse", await (await fetch(`${url}/v1/models`)).json());
    valid("Error", JSON.parse(await post("completions", { prompt: 5 })).error);
  },

  async tools_are_called() {
    const answer = await toolsClient.chat.completions.create(both);
    checkCalls(answer.choices[0]);
    const valid = await validator();
    if (valid !== null) valid("CreateChatCompletionResponse", answer);
    const one = await toolsClient.chat.completions.create({ ...both, parallel_tool_calls: false });
    assert.equal(one.choices[0].message.tool_calls.length, 1);
  },

  async tools_are_called_in_a_stream() {
    const stream = toolsClient.chat.completions.stream({ ...both, stream: true });
    const calls = [];
    stream.on("tool_calls.function.arguments.done", (call) => calls.push(call.name));
    checkCalls((await stream.finalChatCompletion()).choices[0]);
    assert.deepEqual(calls, ["depth", "width"]);
    const valid = await validator();
    if (valid === null) return;
    for await (const chunk of await toolsClient.chat.completions.create({ ...both, stream: true }))
      valid("CreateChatCompletionStreamResponse", chunk);
  },

  async tools_are_run_until_there_is_an_answer() {
    const asked = [];
    const run = (name) => (values) => {
      asked.push([name, values]);
      return "hello"; // which the model answers with words
    };
    const runnable = tools.map((tool) => ({
      type: "function",
      function: { ...tool.function, parse: JSON.parse, function: run(tool.function.name) },
    }));
    const runner = toolsClient.chat.completions.runTools({ ...both, tools: runnable });
    assert.equal(await runner.finalContent(), "Hello, you there.");
    assert.deepEqual(asked, [["depth", { lake: "Inari", unit: "m" }], ["width", {}]]);
  },
};

let failed = 0;
for (const [name, check] of Object.entries(checks)) {
  try {
    const skipped = await check();
    console.log(skipped ? `skip ${name}: ${skipped}` : `ok ${name}`);
  } catch (error) {
    failed++;
    console.log(`FAIL ${name}: ${String(error.message).replaceAll("\n", " | ").slice(0, 400)}`);
  }
}
process.exitCode = failed > 0 ? 1 : 0;
