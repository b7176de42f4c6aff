// What the application does with its posts: Prisma and nothing else. It was like this before slotkeeper came.

export const posts = (prisma) => ({
  /** A post, or a thread: the first of `contents` is the post, the others are its comments, with its date. */
  async create({ integrationId, date, contents, group, state = 'QUEUE' }) {
    return prisma.$transaction(async (tx) => {
      const [first, ...comments] = contents;
      const post = await tx.post.create({ data: { integrationId, publishDate: date, content: first, group, state } });
      for (const content of comments) {
        const data = { integrationId, publishDate: post.publishDate, content, group, state, parentPostId: post.id };
        await tx.post.create({ data });
      }
      return post;
    });
  },

  /** The editor's save button: the post is made, or changed. */
  save({ id, integrationId, date, content, group, state = 'QUEUE' }) {
    const data = { integrationId, publishDate: date, content, group, state };
    return prisma.post.upsert({ where: { id }, create: { id, ...data }, update: data });
  },

  /** A drag in the calendar. */
  drag: (id, date) => prisma.post.update({ where: { id }, data: { publishDate: date } }),

  queue: (id) => prisma.post.update({ where: { id }, data: { state: 'QUEUE' } }),

  published: (id, releaseURL) => prisma.post.update({ where: { id }, data: { state: 'PUBLISHED', releaseURL } }),

  remove: (group) => prisma.post.updateMany({ where: { group }, data: { deletedAt: new Date() } }),

  /** The calendar. */
  between: (integrationId, from, to) =>
    prisma.post.findMany({
      where: { integrationId, publishDate: { gte: from, lt: to }, deletedAt: null, parentPostId: null },
      orderBy: { publishDate: 'asc' },
    }),
});
