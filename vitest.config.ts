import { defineConfig } from 'vitest/config';

// `unit` needs nothing but node; `real` starts etcd, kube-apiserver, Envoy and network namespaces, and so does `attacks`, which plays
// whoever must not get in; `fuzz` throws broken bytes at every decoder.
export default defineConfig({
  test: {
    testTimeout: 15_000,
    projects: [
      { test: { name: 'unit', include: ['test/unit/**/*.test.ts', 'test/tidy.test.ts'], pool: 'threads' } },
      {
        test: {
          name: 'real',
          include: ['test/real/**/*.test.ts'],
          pool: 'forks',
          fileParallelism: false,
          testTimeout: 120_000,
          hookTimeout: 180_000,
        },
      },
      {
        test: {
          name: 'attacks',
          include: ['test/attacks/**/*.test.ts'],
          pool: 'forks',
          fileParallelism: false,
          testTimeout: 60_000,
          hookTimeout: 180_000,
        },
      },
      { test: { name: 'fuzz', include: ['test/fuzz/**/*.test.ts'], pool: 'forks', testTimeout: 3_600_000 } },
    ],
  },
});
