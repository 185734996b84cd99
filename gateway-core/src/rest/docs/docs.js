// Shows the description of the calls. No library: the document is small and its form is known.

const METHODS = ["get", "post", "put", "patch", "delete"];

function element(name, attributes, ...children) {
  const node = Object.assign(document.createElement(name), attributes);
  node.append(...children.filter((child) => child !== undefined && child !== ""));
  return node;
}

/// What a `$ref` names.
function resolve(api, value) {
  if (!value?.$ref) return value;
  const path = value.$ref.slice(2).split("/");
  return path.reduce((place, part) => place?.[part], api);
}

/// A schema as one would write an example of it, with the types for values.
function outline(api, schema, depth = 0) {
  const found = resolve(api, schema) ?? {};
  const indent = "  ".repeat(depth + 1);
  const variants = found.oneOf ?? found.anyOf ?? found.allOf;
  if (variants) {
    return variants.map((variant) => outline(api, variant, depth)).join(found.allOf ? " & " : " | ");
  }
  if (found.enum) return found.enum.map((value) => JSON.stringify(value)).join(" | ");
  if (found.type === "array") return `[${outline(api, found.items, depth)}]`;
  if (found.properties) {
    const required = new Set(found.required ?? []);
    const lines = Object.entries(found.properties).map(([name, property]) => {
      const mark = required.has(name) ? "" : "?";
      const about = property.description ? `  // ${property.description.replaceAll("\n", " ")}` : "";
      return `${indent}"${name}"${mark}: ${outline(api, property, depth + 1)}${about}`;
    });
    return `{\n${lines.join("\n")}\n${"  ".repeat(depth)}}`;
  }
  if (found.additionalProperties) return `{ NAME: ${outline(api, found.additionalProperties, depth)} }`;
  return [found.type ?? "any"].flat().join(" | ");
}

function content(api, holder) {
  const [[type, { schema }] = []] = Object.entries(holder?.content ?? {}).map((entry) => entry);
  return type && schema ? element("pre", { textContent: `${type}\n${outline(api, schema)}` }) : "";
}

function parameters(api, list) {
  if (!list?.length) return "";
  const rows = list.map((entry) => resolve(api, entry)).map((parameter) =>
    element("tr", {},
      element("td", {}, element("code", { textContent: parameter.name + (parameter.required ? "" : "?") })),
      element("td", { className: "soft", textContent: parameter.in }),
      element("td", { textContent: parameter.description ?? "" })));
  return element("table", {}, ...rows);
}

/// Who may: in words.
function permission(operation) {
  const ways = operation.security ?? [];
  if (ways.some((way) => Object.keys(way).length === 0)) return "For everybody.";
  const scopes = ways.flatMap((way) => way.key ?? []);
  return scopes.length ? `For users, and for keys with the scope ${scopes.join(", ")}.` : "For users.";
}

function call(api, path, method, operation) {
  const answers = Object.entries(operation.responses).flatMap(([status, response]) => {
    const found = resolve(api, response);
    const title = `${status === "default" ? "otherwise" : status}: ${found.description}`;
    return [element("p", { className: "soft", textContent: title }), content(api, found)];
  });
  return element("details", { id: operation.operationId },
    element("summary", {},
      element("code", { className: "method", textContent: method.toUpperCase() }),
      element("code", { textContent: path }),
      element("span", { className: "what", textContent: operation.summary ?? "" })),
    element("p", { textContent: operation.description ?? "" }),
    element("p", { className: "soft", textContent: permission(operation) }),
    parameters(api, operation.parameters),
    content(api, operation.requestBody),
    ...answers);
}

function show(api) {
  const place = document.getElementById("calls");
  document.getElementById("about").textContent = api.info.description;
  const all = Object.entries(api.paths).flatMap(([path, item]) =>
    METHODS.filter((method) => item[method]).map((method) => [path, method, item[method]]));
  for (const tag of api.tags) {
    const calls = all.filter(([, , operation]) => operation.tags?.includes(tag.name));
    if (!calls.length) continue;
    place.append(element("section", {},
      element("h2", { textContent: tag.name }),
      element("p", { className: "soft", textContent: tag.description ?? "" }),
      ...calls.map((entry) => call(api, ...entry))));
  }
  const named = document.getElementById(location.hash.slice(1));
  if (named instanceof HTMLDetailsElement) {
    named.open = true;
    named.scrollIntoView();
  }
}

function filter(text) {
  for (const details of document.querySelectorAll("details")) {
    details.hidden = !details.querySelector("summary").textContent.toLowerCase().includes(text);
  }
  for (const section of document.querySelectorAll("section")) {
    section.hidden = !section.querySelector("details:not([hidden])");
  }
}

document.getElementById("filter").addEventListener("input", (event) => filter(event.target.value.toLowerCase()));
const answer = await fetch("openapi.json");
show(await answer.json());
