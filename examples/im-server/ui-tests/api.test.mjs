import assert from "node:assert/strict";
import { test } from "node:test";
import { Api } from "../ui/api.js";

test("the list of conversations is read to its end", async () => {
  const pages = { first: { conversations: [1, 2], next: "17-group:a b" }, "17-group:a b": { conversations: [3], next: null } };
  const asked = [];
  const fetch = async (path) => {
    const cursor = new URL(path, "http://host").searchParams.get("cursor") ?? "first";
    asked.push(cursor);
    return new Response(JSON.stringify(pages[cursor]));
  };
  assert.deepEqual(await new Api({ fetch }).conversations(), [1, 2, 3]);
  assert.deepEqual(asked, ["first", "17-group:a b"]);
});
