// gantry_mini.mjs - the official openai package in a chat with gantry-mini: the request that
// the README shows; a fact with tools offered, a tool call, what the tool said.
//
// GANTRY_URL is a server of gantry-mini.  Prints "ok NAME" or "FAIL NAME: why" per turn and ends
// with status 1 when one failed.  The only file of the tests that relies on what gantry-mini has
// learnt: questions, answers and tools are those of models/gantry-mini (facts/start.txt,
// corpus/tool_catalog.py).
import assert from "node:assert/strict";
import OpenAI from "openai";

const client = new OpenAI({ baseURL: `${process.env.GANTRY_URL}/v1`, apiKey: "none", maxRetries: 0 });

const FACT = {
  question: "How do I chat in the terminal?",
  answer: "gantry run model.gguf opens a chat. /new starts over and /bye ends it.",
};
const WISH = "What is the weather in Levik?";
const CALL = { name: "get_weather", arguments: { city: "Levik" } };
const RESULT = { temperature: 14, sky: "rain" };
const TOLD = "In Levik: 14 degrees, rain.";

function tool(name, description, properties, required) {
  const parameters = { type: "object", properties, required };
  return { type: "function", function: { name, description, parameters } };
}

const text = { type: "string" };
const tools = [
  tool("get_time", "The time in a town", { city: text }, ["city"]),
  tool(
    "get_weather",
    "The weather of a town",
    { city: text, unit: { type: "string", enum: ["celsius", "fahrenheit"] } },
    ["city"],
  ),
];

// --- one conversation, which the turns below go on with -------------------------------------

const messages = [];

async function say(...next) {
  messages.push(...next);
  const body = { model: "gantry-mini", messages, tools, temperature: 0, max_tokens: 120 };
  const choice = (await client.chat.completions.create(body)).choices[0];
  messages.push(choice.message);
  return choice;
}

const turns = {
  async the_readme_is_right() {
    const asked = [{ role: "user", content: FACT.question }];
    const body = { model: "gantry-mini", messages: asked, temperature: 0 };
    const choice = (await client.chat.completions.create(body)).choices[0];
    assert.equal(choice.finish_reason, "stop");
    assert.equal(choice.message.content.trim(), FACT.answer);
  },

  async a_fact_is_told_word_for_word() {
    const choice = await say({ role: "user", content: FACT.question });
    assert.equal(choice.finish_reason, "stop");
    assert.equal(choice.message.tool_calls ?? undefined, undefined);
    assert.equal(choice.message.content.trim(), FACT.answer);
  },

  async a_wish_becomes_a_tool_call() {
    const choice = await say({ role: "user", content: WISH });
    const calls = choice.message.tool_calls;
    assert.equal(choice.finish_reason, "tool_calls");
    assert.equal(calls?.length, 1);
    assert.equal(calls[0].type, "function");
    assert.ok(calls[0].id.length > 0, "the call has no id");
    assert.equal(calls[0].function.name, CALL.name);
    assert.deepEqual(JSON.parse(calls[0].function.arguments), CALL.arguments);
  },

  async the_result_is_told() {
    const id = messages.at(-1).tool_calls?.[0]?.id;
    assert.ok(id, "there was no call");
    const choice = await say({ role: "tool", tool_call_id: id, content: JSON.stringify(RESULT) });
    assert.equal(choice.finish_reason, "stop");
    assert.equal(choice.message.content.trim(), TOLD);
  },
};

let failed = 0;
for (const [name, turn] of Object.entries(turns)) {
  try {
    await turn();
    console.log(`ok ${name}`);
  } catch (error) {
    failed++;
    console.log(`FAIL ${name}: ${String(error.message).replaceAll("\n", " | ").slice(0, 400)}`);
  }
}
process.exitCode = failed > 0 ? 1 : 0;
