/** Who decided. */

export type AuthorKind = 'controller' | 'person' | 'drill' | 'proxy';

/**
 * `controller` decides by itself; `envoy` moves are journalled afterwards; `drill/<name>` is a drill; any other name is a person's.
 */
export const authorKind = (author: string): AuthorKind => {
  if (author === 'controller' || author === '') return 'controller';
  if (author === 'envoy') return 'proxy';
  return author === 'drill' || author.startsWith('drill/') || author.startsWith('drill:') ? 'drill' : 'person';
};

/** Whether somebody asked for it, and could be asked to wait. */
export const isAskedFor = (author: string): boolean => ['person', 'drill'].includes(authorKind(author));
