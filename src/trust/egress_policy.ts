/**
 * From an EgressPolicy, as the platform's people wrote it, to rules: who may call which services of other members, and how often.
 *
 * The form is that of Istio's AuthorizationPolicy, `action` and `rules` with `from` and `to`, for whoever reads one knows the other.
 * Where that form is known to mislead it is narrower: `action`, `from` and `to` must be said, everybody is `*` and never what was left
 * out, and a source says one kind of thing, so that nobody has to know whether two kinds are both needed or one is enough. What is not
 * understood refuses the whole object, for half a rule may let through what the whole one forbade.
 */
import { fail, ok, type Result } from '../core/errors.ts';
import { limits } from '../core/limits.ts';
import { isDnsLabel, parseServiceKey } from '../core/names.ts';
import { parseSource, type SourcePattern, sourceForms, sourceKinds } from './egress_source.ts';

/**
 * - `ALLOW`: as soon as one policy allows anything, what none allows is denied.
 * - `DENY`: denied, whatever allows it.
 * - `LIMIT`: no right, only how often.
 */
export const egressActions = ['ALLOW', 'DENY', 'LIMIT'] as const;
export type EgressAction = (typeof egressActions)[number];

/** A service, `namespace/name`; without a name, all of the namespace. */
export interface ServicePattern {
  readonly namespace: string;
  readonly name?: string;
}

export interface EgressRule {
  /** `<policy>/<number>`, from 0: what a denial names. */
  readonly id: string;
  /** Any of them; undefined: every workload. */
  readonly sources: readonly SourcePattern[] | undefined;
  /** Any of them; undefined: every service. */
  readonly services: readonly ServicePattern[] | undefined;
  /** Of `ALLOW`: the members that may answer, sorted; undefined: all. */
  readonly members?: readonly string[];
  /** Of `LIMIT`: new tunnels a second of each identity, over all gateways of the cluster. */
  readonly connectsPerSecond?: number;
}

export interface EgressPolicy {
  readonly name: string;
  readonly action: EgressAction;
  readonly rules: readonly EgressRule[];
}

interface Problem {
  readonly message: string;
  readonly hint: string;
}

type Fields = Readonly<Record<string, unknown>>;

const shown = (value: unknown): string => {
  const text = JSON.stringify(value) ?? String(value);
  return text.length > 80 ? `${text.slice(0, 77)}...` : text;
};

const isObject = (value: unknown): value is Fields =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

const ruleFields: Readonly<Record<EgressAction, readonly string[]>> = {
  ALLOW: ['from', 'to', 'members'],
  DENY: ['from', 'to'],
  LIMIT: ['from', 'connectsPerSecond'],
};

const problemsShown = 8;

/** Reads one object, and remembers what was wrong with it. */
class Reader {
  readonly problems: Problem[] = [];
  readonly #trustDomain: string;
  #sources = 0;
  #services = 0;

  constructor(trustDomain: string) {
    this.#trustDomain = trustDomain;
  }

  refuse(message: string, hint: string): undefined {
    this.problems.push({ message, hint });
  }

  policy(name: string, spec: unknown): EgressPolicy | undefined {
    const read = this.#object(spec ?? {}, 'spec', ['action', 'rules']);
    if (read === undefined) return undefined;
    const action = egressActions.find((one) => one === read['action']);
    if (action === undefined) {
      const what = read['action'] === undefined ? 'is missing' : `${shown(read['action'])} is no action`;
      this.refuse(`spec.action: ${what}`, `write one of ${egressActions.join(', ')}`);
    }
    const rules = this.#list(read['rules'] ?? [], 'spec.rules', limits.egressPolicyRulesMax, 'rules');
    const parsed = (rules ?? []).map((rule, i) => this.#rule(rule, `spec.rules[${i}]`, `${name}/${i}`, action));
    if (action !== undefined && action !== 'ALLOW' && rules?.length === 0)
      this.refuse(`spec.rules: ${action} without a rule does nothing`, 'add a rule, or delete the object');
    if (this.#sources > limits.egressPolicySourcesMax || this.#services > limits.egressPolicyServicesMax) {
      const many = `${this.#sources} sources and ${this.#services} services`;
      const most = `${limits.egressPolicySourcesMax} and ${limits.egressPolicyServicesMax}`;
      this.refuse(`spec.rules: ${many} in one object, at most ${most}`, 'name namespaces, or use several objects');
    }
    if (this.problems.length > 0 || action === undefined) return undefined;
    return { name, action, rules: parsed.filter((rule) => rule !== undefined) };
  }

  #rule(value: unknown, at: string, id: string, action: EgressAction | undefined): EgressRule | undefined {
    const read = this.#object(value, at, ruleFields[action ?? 'ALLOW']);
    if (read === undefined) return undefined;
    const sources = this.#from(read['from'], `${at}.from`);
    if (action === 'LIMIT') {
      const perSecond = this.#rate(read['connectsPerSecond'], `${at}.connectsPerSecond`);
      return perSecond === undefined ? undefined : { id, sources, services: undefined, connectsPerSecond: perSecond };
    }
    const services = this.#to(read['to'], `${at}.to`);
    const members = read['members'] === undefined ? undefined : this.#members(read['members'], `${at}.members`);
    const most = limits.egressMembersSourcesMax;
    if (members !== undefined && (sources?.length ?? 0) > most)
      this.refuse(
        `${at}.from: ${sources?.length} sources in a rule with members, at most ${most}`,
        'name namespaces: each source is a route of its own in every service that the rule means',
      );
    return { id, sources, services, ...(members && { members }) };
  }

  #members(value: unknown, at: string): readonly string[] {
    const names = this.#texts(value, at).filter(({ text, at: where }) => {
      const good = isDnsLabel(text);
      if (!good) this.refuse(`${where}: ${shown(text)} is not the name of a member`, 'see `isthmus status` for them');
      return good;
    });
    return [...new Set(names.map(({ text }) => text))].sort();
  }

  #from(value: unknown, at: string): SourcePattern[] | undefined {
    const entries = this.#some(value, at, 'sources', 'to mean every workload, write {source: {namespaces: ["*"]}}');
    let everybody = false;
    const sources = entries.flatMap((entry, i) => {
      const here = `${at}[${i}].source`;
      const outer = this.#object(entry, `${at}[${i}]`, ['source']);
      const source = outer && this.#object(outer['source'] ?? {}, here, sourceKinds);
      if (source === undefined) return [];
      const kinds = sourceKinds.filter((kind) => source[kind] !== undefined);
      const [kind] = kinds;
      if (kind === undefined || kinds.length > 1) {
        const what = kind === undefined ? 'is empty' : `says ${kinds.join(' and ')}`;
        this.refuse(`${here}: ${what}`, `give each source one of ${sourceKinds.join(', ')}`);
        return [];
      }
      return this.#texts(source[kind], `${here}.${kind}`).flatMap(({ text, at: where }) => {
        this.#sources++;
        if (kind === 'namespaces' && text === '*') {
          everybody = true;
          return [];
        }
        const pattern = parseSource(kind, text, this.#trustDomain);
        if (pattern === undefined) {
          const domain = kind === 'principals' ? `; the trust domain here is ${this.#trustDomain}` : '';
          this.refuse(`${where}: ${shown(text)} is not ${sourceForms[kind]}`, `write it so${domain}`);
        }
        return pattern ?? [];
      });
    });
    return everybody ? undefined : sources;
  }

  #to(value: unknown, at: string): ServicePattern[] | undefined {
    const entries = this.#some(value, at, 'targets', 'to mean every service, write {services: ["*"]}');
    let everything = false;
    const services = entries.flatMap((entry, i) => {
      const read = this.#object(entry, `${at}[${i}]`, ['services']);
      if (read === undefined) return [];
      return this.#texts(read['services'], `${at}[${i}].services`).flatMap(({ text, at: where }) => {
        this.#services++;
        if (text === '*') {
          everything = true;
          return [];
        }
        const namespace = text.endsWith('/*') ? text.slice(0, -2) : undefined;
        if (namespace !== undefined && isDnsLabel(namespace)) return { namespace };
        const key = parseServiceKey(text);
        if (!key.ok)
          this.refuse(`${where}: ${shown(text)} is not a service`, 'write <namespace>/<service>, <namespace>/* or *');
        return key.ok ? key.value : [];
      });
    });
    return everything ? undefined : services;
  }

  #rate(value: unknown, at: string): number | undefined {
    const max = limits.identityConnectsPerSecondMax;
    if (typeof value === 'number' && Number.isFinite(value) && value > 0 && value <= max) return value;
    const what = value === undefined ? 'is missing' : `${shown(value)} is not a number above 0, at most ${max}`;
    return this.refuse(
      `${at}: ${what}`,
      'write how many new tunnels a second each identity may open; to let none through, write a DENY policy',
    );
  }

  #texts(value: unknown, at: string): { readonly text: string; readonly at: string }[] {
    return this.#some(value, at, 'names', 'write at least one').flatMap((text, i) => {
      if (typeof text === 'string') return { text, at: `${at}[${i}]` };
      this.refuse(`${at}[${i}]: ${shown(text)} is not a text`, 'write a name');
      return [];
    });
  }

  /** An empty list means nobody to one reader and everybody to the next. */
  #some(value: unknown, at: string, what: string, hint: string): readonly unknown[] {
    const list = this.#list(value, at, limits.egressPolicySourcesMax, what);
    if (list?.length === 0) this.refuse(`${at}: the list is empty`, hint);
    return list ?? [];
  }

  #list(value: unknown, at: string, max: number, what: string): readonly unknown[] | undefined {
    if (Array.isArray(value) && value.length <= max) return value;
    const count = Array.isArray(value) ? `${value.length} ${what}` : value === undefined ? 'missing' : shown(value);
    return this.refuse(`${at}: ${count}: not a list of at most ${max} ${what}`, `write a list of ${what}`);
  }

  #object(value: unknown, at: string, known: readonly string[]): Fields | undefined {
    if (!isObject(value)) return this.refuse(`${at}: ${shown(value)} is not an object`, `it holds ${known.join(', ')}`);
    for (const key of Object.keys(value)) {
      if (known.includes(key)) continue;
      this.refuse(`${at}.${key.slice(0, 60)}: unknown field`, `known here: ${known.join(', ')}`);
    }
    return value;
  }
}

/**
 * @param name - of the object
 * @param spec - of the object, as parsed JSON
 * @param trustDomain - of this mesh
 * Errors: `policy/invalid`, naming every field that is wrong, its value, and what to write instead.
 */
export const parseEgressPolicy = (name: string, spec: unknown, trustDomain: string): Result<EgressPolicy> => {
  const reader = new Reader(trustDomain);
  // It stands twice in the object, as it is and as it was accepted, and etcd takes 1.5 MiB.
  const bytes = JSON.stringify(spec ?? {}).length;
  const most = limits.egressPolicyBytesMax;
  if (bytes > most) reader.refuse(`spec: ${bytes} bytes, at most ${most}`, 'use several objects, or name namespaces');
  const policy = reader.policy(name, spec);
  if (policy !== undefined) return ok(policy);
  const { problems } = reader;
  const told = problems.slice(0, problemsShown).map(({ message, hint }) => `${message} (${hint})`);
  const more = problems.length > told.length ? `; and ${problems.length - told.length} more` : '';
  return fail('policy/invalid', `EgressPolicy ${name}: ${told.join('; ')}${more}`, {
    hint: problems[0]?.hint ?? 'see docs/EGRESS-POLICY.md',
    subject: { policy: name, problems: problems.length },
  });
};
