import { createHash } from "node:crypto";
import type { Plugin } from "vite";

/** As the service sends it for the served page, but for script and style, which stand in this file. */
const CONNECT = "https: http://127.0.0.1:* http://localhost:*";

/** Writes the page once more, with script and style in it, which a policy of its own names by their hashes. */
export function oneFile(name: string): Plugin {
  return {
    name: "one-file",
    enforce: "post",
    generateBundle(_options, bundle) {
      const files = Object.values(bundle);
      const script = files.find((file) => file.type === "chunk" && file.isEntry);
      const style = files.find((file) => file.fileName.endsWith(".css"));
      const page = files.find((file) => file.fileName === "index.html");
      if (script?.type !== "chunk" || style?.type !== "asset" || page?.type !== "asset") this.error("a part of the page is missing");
      const code = script.code.replaceAll("</script", "<\\/script").replaceAll("<!--", "<\\!--");
      const css = String(style.source);
      const policy = [
        "default-src 'none'",
        `script-src '${hash(code)}'`,
        `style-src '${hash(css)}'`,
        "worker-src blob:",
        "img-src data:",
        `connect-src ${CONNECT}`,
        "base-uri 'none'",
        "form-action 'none'",
      ].join("; ");
      const source = String(page.source)
        .replace(/<script [^>]*src=[^>]*><\/script>/, "")
        .replace(/<link [^>]*rel="stylesheet"[^>]*>/, "")
        .replace("<head>", () => `<head>\n    <meta http-equiv="Content-Security-Policy" content="${policy}">`)
        .replace("</head>", () => `<style>${css}</style></head>`)
        .replace("</body>", () => `<script type="module">${code}</script></body>`);
      this.emitFile({ type: "asset", fileName: name, source });
    },
  };
}

function hash(text: string): string {
  return `sha256-${createHash("sha256").update(text).digest("base64")}`;
}
