/**
 * `isthmus completion bash|zsh|fish`: scripts that ask the program itself what may come next, so that they never go out of date. Names of
 * clusters, regions and services are those that a controller knows now; when none answers quickly, there are none.
 */
import type { Command, Option } from 'commander';
import { IsthmusError } from '../core/errors.ts';
import type { StatusReport } from '../core/report.ts';
import { print } from './output.ts';
import type { ReachOptions } from './reach.ts';

const shells = {
  bash: `_isthmus() {
  local IFS=$'\\n'
  COMPREPLY=($(isthmus __complete -- "\${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null))
}
complete -o default -F _isthmus isthmus
`,
  zsh: `#compdef isthmus
_isthmus() {
  local -a found
  found=("\${(@f)$(isthmus __complete -- "\${(@)words[2,CURRENT]}" 2>/dev/null)}")
  if (( \${#found} )) && [[ -n $found[1] ]]; then compadd -- $found; else _files; fi
}
compdef _isthmus isthmus
`,
  fish: `function __isthmus_complete
  set -l words (commandline -opc) (commandline -ct)
  isthmus __complete -- $words[2..-1] 2>/dev/null
end
complete -c isthmus -f -a '(__isthmus_complete)'
`,
} as const;

export const printCompletion = (shell: string): void => {
  if (!Object.hasOwn(shells, shell)) {
    throw new IsthmusError('usage/invalid', `"${shell}" is no shell that can be completed for`, {
      hint: `use one of ${Object.keys(shells).join(', ')}`,
    });
  }
  print(shells[shell as keyof typeof shells]);
};

type Names = 'clusters' | 'regions' | 'services';

/** What a word stands for, where it is a name that a controller knows. */
const namesFor = (path: string, args: readonly string[], option: string | undefined): Names | undefined => {
  if (option === '--from' || option === '--cluster') return 'clusters';
  if (option === '--region') return 'regions';
  if (option !== undefined) return undefined;
  if ((path === 'explain' || path === 'failback') && args.length === 0) return 'services';
  if (path !== 'drain' && path !== 'undrain') return undefined;
  if (args.length !== 1) return undefined;
  return args[0] === 'cluster' ? 'clusters' : args[0] === 'service' ? 'services' : undefined;
};

export const namesOf = (status: StatusReport, kind: Names): string[] => {
  if (kind === 'clusters') return [status.member, ...status.peers.map((peer) => peer.member)];
  if (kind === 'regions') return [...new Set(status.peers.map((peer) => peer.region))];
  return status.services.map((service) => service.service);
};

interface Place {
  readonly command: Command;
  /** Names of the commands on the way, joined by blanks. */
  readonly path: string;
  readonly args: readonly string[];
  /** The option whose value comes next. */
  readonly pending: Option | undefined;
  /** Values of options that say where a controller is. */
  readonly given: Readonly<Record<string, string>>;
}

const optionOf = (command: Command, word: string): Option | undefined =>
  command.options.find((option) => option.long === word || option.short === word);

/** Where in the command tree the words lead. */
const walk = (program: Command, words: readonly string[]): Place => {
  let command = program;
  const path: string[] = [];
  const args: string[] = [];
  const given: Record<string, string> = {};
  let pending: Option | undefined;
  for (const word of words) {
    if (pending !== undefined) {
      given[pending.attributeName()] = word;
      pending = undefined;
      continue;
    }
    const option = word.startsWith('-') ? optionOf(command, word) : undefined;
    if (option !== undefined) pending = option.required ? option : undefined;
    else if (!word.startsWith('-')) {
      const child = args.length > 0 ? undefined : command.commands.find((c) => c.name() === word);
      if (child === undefined) args.push(word);
      else {
        command = child;
        path.push(word);
      }
    }
  }
  return { command, path: path.join(' '), args, pending, given };
};

const fixedFor = ({ command, path, args, pending }: Place): string[] => {
  if (pending !== undefined) return [...(pending.argChoices ?? [])];
  if ((path === 'drain' || path === 'undrain') && args.length === 0) return ['cluster', 'gateway', 'service'];
  if (path === 'completion' && args.length === 0) return Object.keys(shells);
  if (args.length > 0) return [];
  return command.commands.map((child) => child.name()).filter((name) => !name.startsWith('__'));
};

/**
 * What may stand in place of the last word, which may be begun.
 * @param ask - names that a controller knows; may fail
 */
export const complete = async (
  program: Command,
  words: readonly string[],
  ask: (options: ReachOptions, kind: Names) => Promise<readonly string[]>,
): Promise<string[]> => {
  const begun = words.at(-1) ?? '';
  const place = walk(program, words.slice(0, -1));
  if (begun.startsWith('-') && place.pending === undefined) {
    return place.command.options.flatMap((o) => (o.long?.startsWith(begun) ? [o.long] : [])).sort();
  }
  const { controller, kubeconfig, context, namespace = 'isthmus-system' } = place.given;
  const options: ReachOptions = {
    namespace,
    ...(controller === undefined ? {} : { controller: [controller] }),
    ...(kubeconfig === undefined ? {} : { kubeconfig }),
    ...(context === undefined ? {} : { context }),
  };
  const kind = namesFor(place.path, place.args, place.pending?.long ?? undefined);
  const names = kind === undefined ? [] : await ask(options, kind).catch(() => []);
  return [...new Set([...fixedFor(place), ...names])].filter((word) => word.startsWith(begun)).sort();
};

const patienceMs = 2_000;

export const completeCommand = async (program: Command, words: readonly string[]): Promise<void> => {
  const { askOne } = await import('./reach.ts');
  const found = await complete(program, words, async (options, kind) => {
    const configured = process.env['ISTHMUS_CONTROLLER'];
    const where =
      options.controller === undefined && configured !== undefined ? { ...options, controller: [configured] } : options;
    return namesOf((await askOne(where, '/v1/status', patienceMs)) as StatusReport, kind);
  });
  if (found.length > 0) print(found.join('\n'));
};
