/* An intrusive doubly linked list: the node lives in the thing that is queued. An empty list points at itself. */
#ifndef FLUME_QUEUE_H
#define FLUME_QUEUE_H

#include <stdbool.h>
#include <stddef.h>

#include "flume.h"

#define FLUME_CONTAINER_OF(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))

static inline void flume_queue_init(struct flume_queue *q) {
  q->next = q;
  q->prev = q;
}

static inline bool flume_queue_empty(const struct flume_queue *q) {
  return q->next == q;
}

static inline void flume_queue_push(struct flume_queue *q, struct flume_queue *node) {
  node->next = q;
  node->prev = q->prev;
  q->prev->next = node;
  q->prev = node;
}

/* Takes node out of the list it is in; it may be taken out again without harm. */
static inline void flume_queue_remove(struct flume_queue *node) {
  node->prev->next = node->next;
  node->next->prev = node->prev;
  flume_queue_init(node);
}

/* The first node, taken out; NULL when the list is empty. */
static inline struct flume_queue *flume_queue_shift(struct flume_queue *q) {
  struct flume_queue *node = q->next;
  if (node == q) return NULL;
  flume_queue_remove(node);
  return node;
}

/* Moves every node of from to the end of q. */
static inline void flume_queue_move(struct flume_queue *q, struct flume_queue *from) {
  if (flume_queue_empty(from)) return;
  from->next->prev = q->prev;
  from->prev->next = q;
  q->prev->next = from->next;
  q->prev = from->prev;
  flume_queue_init(from);
}

#endif
