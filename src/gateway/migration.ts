/**
 * Connections that the kernel has accepted for a process that ends.
 *
 * They wait in the queue of its listening socket, and are reset with it, unless the network namespace lets them move to a
 * sibling's queue (net.ipv4.tcp_migrate_req, Linux 5.14). A hung Envoy collects such connections until it is ended: with
 * this they are late, without it they fail (17 of 300 at 100 a second). Containers often may not write it themselves; then
 * the pod's `securityContext.sysctls` has to.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import type { GatewayLog } from './log.ts';

export const migrationSetting = '/proc/sys/net/ipv4/tcp_migrate_req';

/** Allows it for this network namespace, if we may. True when it is allowed. */
export const allowMigration = (log: GatewayLog): boolean => {
  try {
    if (readFileSync(migrationSetting, 'utf8').trim() !== '1') writeFileSync(migrationSetting, '1');
    return true;
  } catch (error) {
    log('warn', 'connections waiting for an envoy that is ended will be reset', {
      error,
      hint: 'set net.ipv4.tcp_migrate_req=1 in the securityContext.sysctls of the pod',
    });
    return false;
  }
};
