import { describe, expect, test } from 'vitest';
import { hopMark, parseHops } from '../../../src/core/hop.ts';

describe('marks of gateways', () => {
  test('come back as they were written, nearest first', () => {
    const far = hopMark('federation', {
      member: 'us-west',
      upstream: '10.2.0.7:15008',
      flags: '-',
      details: 'via_upstream',
    });
    const near = hopMark('egress', { member: 'us-east', to: 'us-west', attempts: '2' });
    for (const header of [`${far}, ${near}`, `${far},${near}`, [far, near]]) {
      expect(parseHops(header)).toEqual([
        { role: 'egress', member: 'us-east', to: 'us-west', attempts: '2' },
        { role: 'federation', member: 'us-west', upstream: '10.2.0.7:15008', details: 'via_upstream' },
      ]);
    }
  });

  test('commas and braces in details do not split a mark', () => {
    const details =
      'upstream_reset_before_response_started{remote_connection_failure|delayed connect error: 111, egress}';
    expect(parseHops(hopMark('egress', { details, flags: 'UF,URX' }))).toEqual([
      { role: 'egress', details, flags: 'UF,URX' },
    ]);
  });

  test('what is not a mark is left out', () => {
    expect(parseHops(undefined)).toEqual([]);
    expect(parseHops('1')).toEqual([]);
    expect(parseHops('router;flags=UF, egress;colour=red;flags=UH')).toEqual([{ role: 'egress', flags: 'UH' }]);
    expect(parseHops(`egress;details=${'x'.repeat(100_000)}`)).toHaveLength(1);
    expect(parseHops('egress;=;flags;=x;flags=')).toEqual([{ role: 'egress' }]);
  });
});
