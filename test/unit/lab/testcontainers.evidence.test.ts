/**
 * Why the lab does not use testcontainers: it needs a container engine, and the lab must come up where there is none (root on
 * a bare machine, two cores). If it ever starts a network without one, this test fails and the decision is to be made again.
 */
import { describe, expect, it } from 'vitest';

const engineless = { DOCKER_HOST: 'unix:///nonexistent/docker.sock', TESTCONTAINERS_RYUK_DISABLED: 'true' };

describe('testcontainers', () => {
  it('cannot make a network of hosts without a container engine', async () => {
    const before = { ...process.env };
    Object.assign(process.env, engineless);
    try {
      const { Network } = await import('testcontainers');
      await expect(new Network().start()).rejects.toThrow(/container runtime/i);
    } finally {
      process.env = before;
    }
  }, 60_000);
});
