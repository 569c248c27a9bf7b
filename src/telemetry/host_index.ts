/** Which service a CONNECT's authority means, kept up to date service by service. */
import type { ServiceKey } from '../core/names.ts';
import type { ServiceView } from '../federation/view.ts';

export class HostIndex {
  readonly #byHost = new Map<string, ServiceKey>();
  readonly #hostOf = new Map<ServiceKey, string>();

  /** Undefined: the service is gone. */
  set(key: ServiceKey, service: Pick<ServiceView, 'hostname'> | undefined): void {
    const before = this.#hostOf.get(key);
    if (before === service?.hostname) return;
    if (before !== undefined && this.#byHost.get(before) === key) this.#byHost.delete(before);
    if (service === undefined) {
      this.#hostOf.delete(key);
      return;
    }
    this.#hostOf.set(key, service.hostname);
    this.#byHost.set(service.hostname, key);
  }

  /** `host:port`; gateways route by the exact text, so no other spelling means a service. */
  readonly serviceOf = (authority: string): ServiceKey | undefined => {
    const colon = authority.lastIndexOf(':');
    return colon < 0 ? undefined : this.#byHost.get(authority.slice(0, colon));
  };
}
