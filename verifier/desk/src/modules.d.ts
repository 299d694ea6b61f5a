/// <reference types="vite/client" />

declare module "virtual:claims" {
  const found: Record<string, import("./desk/claims").Section>;
  export default found;
}

declare module "virtual:events" {
  const found: import("./desk/chain-log").EventShape[];
  export default found;
}
