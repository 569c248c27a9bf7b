import type { Plan } from '../../../src/failover/plan.ts';
import { decodeState, encodeState } from '../../../src/failover/saved.ts';
import { step as decide } from '../../../src/failover/step.ts';
import { seededRng } from '../clock.ts';
import type { Invariant } from './invariant.ts';
import { placeText, servicesOf } from './placement.ts';

const everySteps = 25;
const roundedMs = 2;

const serviceText = (plan: Plan, key: string): string => {
  const service = plan.services.get(key);
  if (service === undefined) return 'nothing';
  const { tiers, local, failFast } = service;
  const places = tiers
    .map((cells) => cells.map(({ member, weight }) => `${member}:${weight}`).join('+'))
    .join(' then ');
  return `local ${local.percent} %, ${places}${failFast ? ', fail fast' : ''}`;
};

export const restartUndoesNothing: Invariant = {
  name: 'restart-undoes-nothing',
  what: 'What was saved decides as what was remembered would have, and the first step after a restart brings nothing back.',
  begin: () => {
    let count = 0;
    return {
      step: ({ process, before, view, signals, policies, nowMs, planBefore, plan, first }) => {
        const self = process.o.cluster.name;
        if (first && planBefore !== undefined && signals.commands.length === 0) {
          for (const key of servicesOf(planBefore)) {
            const was = planBefore.services.get(key);
            const is = plan.services.get(key);
            for (const { member, percent, reason } of was?.standings ?? []) {
              if (percent > 0 || (reason !== 'Latched' && reason !== 'Draining')) continue;
              const now = is?.standings.find((s) => s.member === member);
              if (now === undefined || now.percent === 0) continue;
              return `${self} restarted, and ${member} serves ${key} again although it was ${reason}: "${placeText(is)}"`;
            }
          }
        }
        if (count++ % everySteps !== 0) return undefined;
        const saved = decodeState(encodeState(before));
        if (!saved.ok) return `${self}: the state cannot be read back: ${saved.error.message}`;
        const differs = (atMs: number): string | undefined => {
          const remembered = decide(before, view, signals, policies, atMs, seededRng(1)).plan;
          const restored = decide(saved.value, view, signals, policies, atMs, seededRng(1)).plan;
          for (const key of servicesOf(remembered, restored)) {
            const [a, b] = [serviceText(remembered, key), serviceText(restored, key)];
            if (a !== b) return `${self}: ${key} would be "${a}", and after a restart "${b}"`;
          }
          return undefined;
        };
        // The end of a penalty is rounded up to a millisecond: who asks just before it is told to come again.
        if (differs(nowMs) !== undefined) return differs(nowMs + roundedMs);
        return undefined;
      },
    };
  },
};
