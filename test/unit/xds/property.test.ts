/**
 * Whatever happens between a proxy and the machine, in whatever order the messages cross, the proxy ends up with the
 * table restricted to what it asked for (older versions only of what it refuses), and nothing it holds is sent again.
 */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { behaviourOf } from '../../../src/xds/behaviour.ts';
import type { DeltaRequest } from '../../../src/xds/decode.ts';
import { types } from '../../../src/xds/resource.ts';
import { StreamSubscriptions } from '../../../src/xds/stream.ts';
import { ResourceTable } from '../../../src/xds/table.ts';
import { type Received, receive, request, resource } from './client.ts';

const roles = [
  [types.cluster, types.endpoints, types.listener, types.routes],
  [types.address, types.authorization],
] as const;
const names = ['a', 'b', 'c', 'd', 'e'];

/** Contents that start with `bad` are refused. */
class ProxyModel {
  readonly typeUrl: string;
  readonly namesErrors: boolean;
  wildcard: boolean;
  readonly asked = new Set<string>();
  /** Names whose next arrival is owed although nothing may have changed. */
  readonly owed = new Map<string, number>();
  readonly held = new Map<string, string>();
  readonly refusedAlone = new Set<string>();
  /** Names that were in a refused response: what was sent before the refusal arrived could not know of it. */
  readonly crossed = new Set<string>();

  constructor(typeUrl: string, wildcard: boolean, namesErrors: boolean) {
    this.typeUrl = typeUrl;
    this.wildcard = wildcard;
    this.namesErrors = namesErrors;
  }
  wants(name: string): boolean {
    return this.wildcard || this.asked.has(name);
  }
  owe(name: string): void {
    this.owed.set(name, (this.owed.get(name) ?? 0) + 1);
  }

  connect(): DeltaRequest {
    const initialVersions = new Map(this.held);
    this.owed.clear();
    this.refusedAlone.clear();
    for (const name of this.asked) if (!this.held.has(name)) this.owe(name);
    const subscribe = [...this.asked];
    // The implied wildcard of an empty request exists for some types only; say it aloud otherwise.
    if (this.wildcard && (subscribe.length > 0 || !behaviourOf(this.typeUrl).wildcardByDefault)) subscribe.push('*');
    const nothing = !this.wildcard && subscribe.length === 0;
    return request(this.typeUrl, {
      initialVersions,
      subscribe: nothing ? ['*'] : subscribe,
      unsubscribe: nothing ? ['*'] : [],
    });
  }

  answer(received: Received): DeltaRequest {
    const bad = [...received.resources].filter(([, { content }]) => content.startsWith('bad'));
    const each = behaviourOf(this.typeUrl).appliesEach;
    // Without names in the text nobody can know which were applied: the proxy then refuses as a whole.
    const appliesGood = each && this.namesErrors;
    for (const [name, { version }] of received.resources) {
      const owed = this.owed.get(name) ?? 0;
      if (owed > 0) this.owed.set(name, owed - 1);
      else {
        if (!this.crossed.delete(name)) expect(this.held.get(name), `${name} is held already`).not.toBe(version);
        expect(this.refusedAlone.has(`${name} ${version}`), `${name} was refused and did not change`).toBe(false);
      }
      for (const key of [...this.refusedAlone]) if (key.startsWith(`${name} `)) this.refusedAlone.delete(key);
      if (!this.wants(name)) continue;
      if (bad.length === 0 || (appliesGood && !bad.some(([other]) => other === name))) this.held.set(name, version);
    }
    for (const name of received.removed) this.held.delete(name);
    const culprits = this.namesErrors ? bad : received.resources.size === 1 ? bad : [];
    for (const [name, { version }] of culprits) {
      for (const key of [...this.refusedAlone]) if (key.startsWith(`${name} `)) this.refusedAlone.delete(key);
      this.refusedAlone.add(`${name} ${version}`);
    }
    if (bad.length === 0) return request(this.typeUrl, { nonce: received.nonce });
    for (const name of received.resources.keys()) this.crossed.add(name);
    const error = this.namesErrors ? bad.map(([name]) => `${name}: bad`).join('; ') : 'something is bad';
    return request(this.typeUrl, { nonce: received.nonce, error });
  }
}

const content = fc.constantFrom('1', '2', '3', 'bad1', 'bad2', undefined);
const changes = fc.uniqueArray(fc.tuple(fc.constantFrom(...names), content), {
  minLength: 1,
  maxLength: 4,
  selector: ([name]) => name,
});
const action = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      do: fc.constant('change' as const),
      type: fc.nat(3),
      set: changes,
    }),
  },
  { weight: 6, arbitrary: fc.record({ do: fc.constant('send' as const) }) },
  { weight: 6, arbitrary: fc.record({ do: fc.constant('receive' as const) }) },
  { weight: 6, arbitrary: fc.record({ do: fc.constant('request' as const) }) },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constant('subscribe' as const),
      type: fc.nat(3),
      name: fc.constantFrom(...names, 'nobody'),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({ do: fc.constant('unsubscribe' as const), type: fc.nat(3), name: fc.constantFrom(...names) }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('wildcard' as const), type: fc.nat(3), on: fc.boolean() }) },
  {
    weight: 1,
    arbitrary: fc.record({
      do: fc.constant('noise' as const),
      type: fc.nat(3),
      nonce: fc.constantFrom('x', 'all-1', 'own-zzz'),
    }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('reconnect' as const) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('wait' as const), ms: fc.nat(300) }) },
);

type Action = typeof action extends fc.Arbitrary<infer T> ? T : never;

test('the proxy ends with the table restricted to what it asked for, and nothing is sent twice', () => {
  const run = (
    role: readonly string[],
    wildcards: readonly boolean[],
    namesErrors: boolean,
    actions: readonly Action[],
  ) => {
    let nowMs = 0;
    const table = new ResourceTable(role);
    const contents = new Map<string, string>();
    const proxies = role.map((typeUrl, i) => new ProxyModel(typeUrl, wildcards[i]!, namesErrors));
    let stream: StreamSubscriptions;
    let requests: DeltaRequest[] = [];
    let responses: Received[] = [];
    const connect = (): void => {
      stream = new StreamSubscriptions(table);
      responses = [];
      requests = proxies.map((proxy) => proxy.connect());
      // The first request of a type always comes first.
      for (const first of requests.splice(0)) stream.request(first, nowMs);
    };
    const send = (): boolean => {
      const push = stream.next(nowMs);
      if (push !== undefined) responses.push(receive(push));
      return push !== undefined;
    };
    const take = (): boolean => {
      const received = responses.shift();
      if (received !== undefined) requests.push(proxies[role.indexOf(received.typeUrl)]!.answer(received));
      return received !== undefined;
    };
    const serve = (): boolean => {
      const next = requests.shift();
      if (next !== undefined) expect(stream.request(next, nowMs)).toMatchObject({ ok: true });
      return next !== undefined;
    };
    connect();
    for (const step of actions) {
      const proxy = 'type' in step ? proxies[step.type % proxies.length]! : proxies[0]!;
      const { typeUrl } = proxy;
      if (step.do === 'change') {
        for (const [name, value] of step.set) contents.set(`${typeUrl} ${name}`, value ?? '');
        table.apply({
          removes: step.set.filter(([, value]) => value === undefined).map(([name]) => ({ typeUrl, name })),
          upserts: step.set.flatMap(([name, value]) => (value === undefined ? [] : [resource(typeUrl, name, value)])),
        });
      } else if (step.do === 'send') send();
      else if (step.do === 'receive') take();
      else if (step.do === 'request') serve();
      else if (step.do === 'wait') nowMs += step.ms;
      else if (step.do === 'noise') requests.push(request(typeUrl, { nonce: step.nonce, error: 'a b c d e' }));
      else if (step.do === 'reconnect') connect();
      else {
        // A change of mind is a message of its own; all that crossed it is delivered first, so that the model stays simple.
        while (send() || take() || serve());
        if (step.do === 'subscribe') {
          proxy.asked.add(step.name);
          proxy.owe(step.name);
          for (const key of [...proxy.refusedAlone])
            if (key.startsWith(`${step.name} `)) proxy.refusedAlone.delete(key);
          requests.push(request(typeUrl, { subscribe: [step.name] }));
        } else if (step.do === 'unsubscribe') {
          if (!proxy.asked.delete(step.name)) continue;
          if (!proxy.wildcard) proxy.held.delete(step.name);
          requests.push(request(typeUrl, { unsubscribe: [step.name] }));
        } else if (step.on !== proxy.wildcard) {
          proxy.wildcard = step.on;
          if (!step.on) for (const name of [...proxy.held.keys()]) if (!proxy.asked.has(name)) proxy.held.delete(name);
          proxy.refusedAlone.clear();
          requests.push(request(typeUrl, step.on ? { subscribe: ['*'] } : { unsubscribe: ['*'] }));
        }
        while (serve());
      }
    }
    // Quiet: everything is delivered and answered, and every wait has ended.
    for (let idle = 0; idle < 3; ) {
      if (send() || take() || serve()) idle = 0;
      else {
        idle++;
        nowMs += 1_000;
      }
    }
    const refusing = proxies.some(
      (proxy, i) =>
        stream.status().find(({ typeUrl }) => typeUrl === role[i])!.rejected.length > 0 && proxy.held.size >= 0,
    );
    for (const proxy of proxies) {
      for (const name of [...names, 'nobody']) {
        const now = table.get(proxy.typeUrl, name);
        const held = proxy.held.get(name);
        const bad = contents.get(`${proxy.typeUrl} ${name}`)?.startsWith('bad') === true;
        if (!proxy.wants(name)) expect(held).toBeUndefined();
        else if (now === undefined) {
          // Clusters and endpoints are kept while the proxy refuses what leads away from them.
          if (!refusing) expect(held).toBeUndefined();
        } else if (bad) expect(held).not.toBe(now.version);
        else expect(held, `${proxy.typeUrl} ${name}`).toBe(now.version);
      }
    }
    for (const status of stream!.status())
      expect(status.rejected.map(({ name }) => name).every((name) => names.includes(name))).toBe(true);
  };
  fc.assert(
    fc.property(
      fc.constantFrom(...roles),
      fc.array(fc.boolean(), { minLength: 4, maxLength: 4 }),
      fc.boolean(),
      fc.array(action, { maxLength: 60 }),
      run,
    ),
    { numRuns: 1_500 },
  );
});
