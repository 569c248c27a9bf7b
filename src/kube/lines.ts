/**
 * Cuts a byte stream into lines, with a bound on the length of one. A watch sends one JSON object a line; the cut works on
 * bytes and decodes whole lines only, so that a character split between two packets stays whole. node:readline was passed
 * over: it has no bound, and delivers lines later than the data event they came with.
 */

export interface LineCutter {
  /** Calls `line` for each line completed by this chunk. Returns false once a line went over the bound: stop reading. */
  push(chunk: Buffer): boolean;
}

export const cutLines = (bytesMax: number, line: (text: string) => void): LineCutter => {
  let held: Buffer[] = [];
  let heldBytes = 0;
  return {
    push: (chunk) => {
      let start = 0;
      for (;;) {
        const end = chunk.indexOf(10, start);
        if (end === -1) break;
        const part = chunk.subarray(start, end);
        start = end + 1;
        if (heldBytes + part.length > bytesMax) return false;
        const whole = heldBytes === 0 ? part : Buffer.concat([...held, part]);
        held = [];
        heldBytes = 0;
        if (whole.length > 0) line(whole.toString('utf8'));
      }
      if (start < chunk.length) {
        const rest = chunk.subarray(start);
        heldBytes += rest.length;
        if (heldBytes > bytesMax) return false;
        held.push(rest);
      }
      return true;
    },
  };
};
