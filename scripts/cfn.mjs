// Validates CloudFormation templates offline: node scripts/cfn.mjs FILE...
import { createRequire } from "node:module";
import { fileURLToPath } from "node:url";

const require = createRequire(fileURLToPath(new URL("../bin/npm/", import.meta.url)));
const { RegoEngine, TemplateFile } = require("@aws/cloudformation-validate");

const engine = new RegoEngine();
let bad = 0;
for (const file of process.argv.slice(2)) {
  const { diagnostics } = engine.validateStandard(new TemplateFile(file));
  for (const d of diagnostics) {
    if (d.severity === "INFO") continue;
    bad++;
    console.log(`${file}:${d.startLine}: ${d.severity} ${d.ruleId}: ${d.entity?.logicalId ?? ""}: ${d.message}`);
  }
}
engine.free();
process.exit(bad === 0 && process.argv.length > 2 ? 0 : 1);
