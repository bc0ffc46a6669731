import { defineConfig } from "vite";

// The same input gives the same bytes on every machine: names are hashes of contents, and nothing of the build's
// surroundings (paths, times, the environment) is in them.
export default defineConfig({
  base: "/",
  build: {
    assetsInlineLimit: 0, // a data: address is not of this origin, so the policy of the page would refuse it
    modulePreload: { polyfill: false },
    target: ["chrome123", "firefox121", "safari17.5"],
    reportCompressedSize: false,
  },
});
