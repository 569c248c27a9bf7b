/** Asks for a name to be typed before something is done that moves people's traffic. */
import { createInterface } from 'node:readline/promises';
import { IsthmusError } from '../core/errors.ts';

export interface Terminal {
  readonly interactive: boolean;
  ask(question: string): Promise<string>;
}

export const realTerminal: Terminal = {
  get interactive() {
    return process.stdin.isTTY === true && process.stderr.isTTY === true;
  },
  async ask(question) {
    const lines = createInterface({ input: process.stdin, output: process.stderr });
    try {
      return await lines.question(question);
    } finally {
      lines.close();
    }
  },
};

/**
 * @param what - as `drain cluster us-west`
 * @param next - the command that needs no terminal
 * @throws IsthmusError command/confirm (exit 64)
 */
export const confirm = async (what: string, name: string, next: string, terminal: Terminal): Promise<void> => {
  if (!terminal.interactive) {
    throw new IsthmusError('command/confirm', `nobody is here to confirm: ${what}`, {
      hint: next,
      subject: { name },
    });
  }
  const typed = (await terminal.ask(`Type ${name} to ${what}: `)).trim();
  if (typed === name) return;
  throw new IsthmusError('command/confirm', `"${typed}" is not "${name}": nothing was done`, {
    hint: `type the name as it stands, or: ${next}`,
    subject: { name, typed },
  });
};
