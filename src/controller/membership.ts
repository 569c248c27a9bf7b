/** Who is in, for how long, and who is out; and how old the keys are by which we are: for `status` and for metrics. */
import { X509Certificate } from 'node:crypto';
import { IsthmusError } from '../core/errors.ts';
import type { MembershipReport } from '../core/report.ts';
import type { Federation } from '../federation/federation.ts';
import type { Metrics } from '../ops/metrics.ts';
import type { MemberKeys } from './keys.ts';

export interface MembershipInput {
  readonly self: string;
  readonly federation: Federation;
  readonly keys: MemberKeys;
  /** PEM: our client certificate for etcd. */
  readonly etcdCertificate: string | Uint8Array;
  readonly wallMs: number;
}

/** Memberships and certificates that end within this, or that have lived two thirds of their life when it is short, are shown, and alarm. */
const soonMsMax = 30 * 86_400_000;
const endsSoon = (fromMs: number, untilMs: number, nowMs: number): boolean =>
  untilMs - nowMs < Math.min(soonMsMax, (untilMs - fromMs) / 3);
const secondsUntil = (ms: number, nowMs: number): number => Math.round((ms - nowMs) / 1_000);

export const membershipReport = ({
  self,
  federation,
  keys,
  etcdCertificate,
  wallMs,
}: MembershipInput): MembershipReport => {
  const own = federation.members.get(self)?.member;
  const { step } = keys;
  const etcd = new X509Certificate(etcdCertificate);
  const etcdUntilMs = etcd.validToDate.getTime();
  return {
    sequence: own === undefined ? null : String(own.sequence),
    endsInSeconds: own === undefined ? null : secondsUntil(own.notAfterMs, wallMs),
    keys: {
      number: keys.number,
      ageSeconds: Math.max(0, -secondsUntil(keys.madeMs, wallMs)),
      stage: step?.stage ?? 'current',
      dueInSeconds: step?.dueMs === undefined ? null : secondsUntil(step.dueMs, wallMs),
      late: step?.late ?? false,
      waiting: step?.stage === 'announced' ? keys.waiting() : [],
      federationCaEndsInSeconds: secondsUntil(keys.federationCa.certificate.validToDate.getTime(), wallMs),
      etcdCertificateEndsInSeconds: secondsUntil(etcdUntilMs, wallMs),
      etcdCertificateEndsSoon: endsSoon(etcd.validFromDate.getTime(), etcdUntilMs, wallMs),
    },
    ending: [...federation.members]
      .filter(([, { member }]) => endsSoon(member.notBeforeMs, member.notAfterMs, wallMs))
      .map(
        ([
          member,
          {
            member: { notAfterMs },
          },
        ]) => ({ member, endsInSeconds: secondsUntil(notAfterMs, wallMs) }),
      )
      .sort((a, b) => a.endsInSeconds - b.endsInSeconds),
    revoked: [...federation.revocations.marks()]
      .filter(({ member }) => federation.revoked(member))
      .map(({ member, sequence, reason, wallMs: atMs }) => ({
        ...{ member, reason, sequence: String(sequence) },
        sinceSeconds: Math.max(0, -secondsUntil(atMs, wallMs)),
      }))
      .sort((a, b) => (a.member < b.member ? -1 : 1)),
  };
};

/** What a person has to do before it is too late: nobody renews these by themselves. */
export const membershipProblems = ({ keys, ending }: MembershipReport): readonly IsthmusError[] => {
  const days = (seconds: number): string => `${Math.max(0, Math.floor(seconds / 86_400))} days`;
  const problems = ending
    .filter(({ endsInSeconds }) => endsInSeconds > 0)
    .map(
      ({ member, endsInSeconds }) =>
        new IsthmusError('member/expired', `the membership of ${member} ends in ${days(endsInSeconds)}`, {
          hint: 'have the authority renew it',
          subject: { member },
        }),
    );
  if (!keys.etcdCertificateEndsSoon) return problems;
  const left = days(keys.etcdCertificateEndsInSeconds);
  const message = `the client certificate for etcd ends in ${left}: then nothing is read or written`;
  return [
    ...problems,
    new IsthmusError('keys/late', message, { hint: 'isthmus keys renew-etcd, at the authority’s desk' }),
  ];
};

export const gaugeMembership = (metrics: Metrics, report: MembershipReport, input: MembershipInput): void => {
  metrics.reset('isthmus_membership_remaining_seconds');
  for (const [peer, { member }] of input.federation.members) {
    metrics.set('isthmus_membership_remaining_seconds', secondsUntil(member.notAfterMs, input.wallMs), { peer });
  }
  const { keys } = report;
  metrics.set('isthmus_members_revoked', report.revoked.length);
  metrics.set('isthmus_keys_age_seconds', keys.ageSeconds);
  metrics.set('isthmus_keys_number', keys.number);
  metrics.set('isthmus_keys_late', keys.late ? 1 : 0);
  metrics.set('isthmus_keys_waiting', keys.waiting.length);
  metrics.set('isthmus_federation_ca_remaining_seconds', keys.federationCaEndsInSeconds);
  metrics.set('isthmus_etcd_certificate_remaining_seconds', keys.etcdCertificateEndsInSeconds);
};
