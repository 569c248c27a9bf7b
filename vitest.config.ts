import { defineConfig } from 'vitest/config';

// Real processes on a machine that others use too: what fails is tried once more, and says so. What fails twice is broken.
const retry = 1;
/** Data paths and whole labs; the rest of test/real has stores and API servers. The two can run side by side. */
const mesh = ['envoy', 'gateway', 'hbone', 'lab', 'probe', 'server'].map((room) => `test/real/${room}/**/*.test.ts`);
const withProcesses = { pool: 'forks', fileParallelism: false, testTimeout: 120_000, hookTimeout: 180_000, retry } as const;

// `unit` needs nothing but node; `real` and `mesh` start etcd, kube-apiserver, Envoy and network namespaces, and so does `attacks`,
// which plays whoever must not get in; `fuzz` throws broken bytes at every decoder.
export default defineConfig({
  test: {
    testTimeout: 60_000,
    projects: [
      { test: { name: 'unit', include: ['test/unit/**/*.test.ts', 'test/tidy.test.ts'], pool: 'threads' } },
      { test: { ...withProcesses, name: 'real', include: ['test/real/**/*.test.ts'], exclude: mesh } },
      { test: { ...withProcesses, name: 'mesh', include: mesh } },
      { test: { ...withProcesses, name: 'attacks', include: ['test/attacks/**/*.test.ts'], testTimeout: 60_000 } },
      { test: { name: 'fuzz', include: ['test/fuzz/**/*.test.ts'], pool: 'forks', testTimeout: 3_600_000 } },
    ],
  },
});
