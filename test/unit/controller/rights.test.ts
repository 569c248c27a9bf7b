import { describe, expect, it } from 'vitest';
import { rightsProblem } from '../../../src/controller/rights.ts';

const range = (from: string, to: string) => ({ read: true, write: false, from, to });
const shared = [
  range('/isthmus/v1/demo/set/', '/isthmus/v1/demo/set0'),
  range('/isthmus/v1/demo/public/', '/isthmus/v1/demo/public0'),
];
const problem = (...more: ReturnType<typeof range>[]) => rightsProblem([...shared, ...more], 'demo', 'us-west');

describe('the role of a member', () => {
  it('is as it should be, reads too much, or too little', () => {
    expect(problem(range('/isthmus/v1/demo/to/us-west/', '/isthmus/v1/demo/to/us-west0'))).toBeUndefined();
    expect(problem(range('/isthmus/v1/demo/', '/isthmus/v1/demo0'))?.message).toContain('for others alone');
    expect(problem(range('/isthmus/v1/demo/to/', '/isthmus/v1/demo/to0'))?.message).toContain('for others alone');
    expect(problem()?.message).toContain('for it alone');
    expect(problem(range('/isthmus/v1/demo/to/us/', '/isthmus/v1/demo/to/us0'))?.message).toContain('for it alone');
    const own = range('/isthmus/v1/demo/to/us-west/', '/isthmus/v1/demo/to/us-west0');
    const writing = { ...range('/isthmus/v1/demo/public/us-west/', '/isthmus/v1/demo/public/us-west0'), write: true };
    expect(rightsProblem([...shared, own, writing], 'demo', 'us-west')).toBeUndefined();
    expect(rightsProblem([...shared, own, writing], 'demo', 'us-west', true)?.message).toContain(
      'past the store gateways',
    );
    expect(rightsProblem([...shared, own], 'demo', 'us-west', true)).toBeUndefined();
    expect(problem()?.hint).toContain('isthmus authority roles');
  });
});
