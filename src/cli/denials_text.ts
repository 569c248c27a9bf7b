/** Denials at the border, as text: who, to what, why, how often. */
import type { DenialReport } from '../core/egress_report.ts';
import { age } from './output.ts';

const reasonText = ({ reason, rule }: DenialReport): string => {
  if (rule === 'none') return `${reason} (no rule allows it)`;
  return rule === '' ? reason : `${reason} ${rule}`;
};

/** `spiffe://td/ns/shop/sa/cart` as `shop/cart`; anything else as it is. */
export const shortSource = (source: string): string =>
  source.replace(/^spiffe:\/\/[^/]+\/ns\/([^/]+)\/sa\/([^/]+)$/, '$1/$2') || 'nobody known';

export const denialHeads = ['SIDE', 'WHO', 'TO', 'REASON', 'TIMES', 'LAST'] as const;

export const denialRow = (denial: DenialReport): string[] => [
  denial.side,
  shortSource(denial.source),
  denial.service === '' ? '(no service)' : denial.service,
  reasonText(denial),
  String(denial.count),
  `${age(denial.lastSeconds)} ago`,
];
