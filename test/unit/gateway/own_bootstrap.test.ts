import { describe, expect, it } from 'vitest';
import { echoListenerName, withOwnParts } from '../../../src/gateway/own_bootstrap.ts';

const paths = { adminPath: '/run/x/admin.sock', echoPath: '/run/x/echo.sock' };
type Made = {
  node: unknown;
  admin: { address: { pipe: { path: string } } };
  watchdogs?: { worker_watchdog: { kill_timeout: string } };
  static_resources: { clusters: unknown; listeners: { name: string; address: unknown }[] };
};

describe('the bootstrap of an Envoy', () => {
  it('keeps what it was given and gets an admin socket and a liveness listener', () => {
    const given = {
      node: { id: 'n' },
      admin: { address: { socket_address: { address: '0.0.0.0', port_value: 9901 } } },
      static_resources: { clusters: [{ name: 'c' }], listeners: [{ name: 'mine' }] },
    };
    const made = withOwnParts(given, paths, 1) as Made;
    expect(made.node).toEqual({ id: 'n' });
    expect(made.admin.address).toEqual({ pipe: { path: paths.adminPath, mode: 0o600 } });
    expect(made.static_resources.clusters).toEqual([{ name: 'c' }]);
    expect(made.static_resources.listeners.map((l) => l.name)).toEqual(['mine', echoListenerName]);
    expect(given.static_resources.listeners).toHaveLength(1);
  });

  it('works from nothing, and leaves a single worker to our own watch', () => {
    const made = withOwnParts({}, paths, 1) as Made;
    expect(made.static_resources.listeners).toHaveLength(1);
    expect(made.watchdogs).toBeUndefined();
  });

  it('has Envoy look after workers that our one connection does not see', () => {
    expect((withOwnParts({}, paths, 4) as Made).watchdogs?.worker_watchdog.kill_timeout).toBe('5s');
  });
});
