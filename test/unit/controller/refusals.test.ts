/** What is refused is told when it begins, once. */
import { describe, expect, it } from 'vitest';
import { Refusals } from '../../../src/controller/refusals.ts';
import { type ErrorCode, IsthmusError } from '../../../src/core/errors.ts';

const error = (code: ErrorCode, key: string, message = 'x') =>
  new IsthmusError(code, message, { subject: { member: 'east', key } });

describe('a refusal', () => {
  const told: string[] = [];
  const refusals = new Refusals((about, { code, subject }) => told.push(`${about} ${code} ${subject.key}`));
  const look = (about: string, ...problems: IsthmusError[]) => {
    told.length = 0;
    refusals.look(about, problems);
    return [...told];
  };

  it('is told once, also while its message changes', () => {
    expect(look('east', error('manifest/root', 'manifest', '3 s'))).toEqual(['east manifest/root manifest']);
    expect(look('east', error('manifest/root', 'manifest', '4 s'))).toEqual([]);
    expect(look('west', error('manifest/root', 'manifest'))).toEqual(['west manifest/root manifest']);
  });

  it('is told when it takes the place of another', () => {
    expect(look('east', error('manifest/signature', 'manifest'))).toEqual(['east manifest/signature manifest']);
    expect(look('east', error('record/malformed', 'a'), error('record/malformed', 'b'))).toHaveLength(2);
    expect(look('east', error('record/malformed', 'b'), error('record/malformed', 'c'))).toEqual([
      'east record/malformed c',
    ]);
  });

  it('is told again when it begins again, or its member does', () => {
    expect(look('east')).toEqual([]);
    expect(look('east', error('record/malformed', 'c'))).toHaveLength(1);
    refusals.keepOnly(new Set(['west']));
    expect(look('east', error('record/malformed', 'c'))).toHaveLength(1);
    expect(look('west', error('manifest/root', 'manifest'))).toEqual([]);
  });

  it('of no single member is told by who it is about', () => {
    expect(look('', error('member/unknown', 'x'), error('member/unknown', 'y'))).toHaveLength(2);
    expect(look('', error('member/unknown', 'y'))).toEqual([]);
  });
});
