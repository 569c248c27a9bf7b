import { defineConfig } from 'vitest/config';

// Two projects: `unit` needs nothing but node; `real` starts etcd, kube-apiserver, Envoy and network namespaces.
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
    ],
  },
});
