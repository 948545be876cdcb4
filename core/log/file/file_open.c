/* Opening a file log: from a directory to a list of segments.
 *
 * Happy path: list the directory, sort the segments by name, load the last one: by its index if the log was closed in
 * order, else by a scan. The others are sealed, and are looked at when they are first read; so opening a large log costs
 * the same as opening a small one.
 *
 * Failures:
 *
 * - A torn tail of the last segment is cut (segment_scan.c says what makes a tail torn), unless a record in it was
 *   deleted, and therefore acknowledged.
 * - A last segment that is sealed had a successor, which is missing: FLUME_ECORRUPT.
 * - Everything else that is wrong is FLUME_ECORRUPT with file and byte, and nothing is changed on disk.
 *
 * Invariants: what is reported as recovered is on disk. The last segment is not sealed, unless options.damaged is set. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/path.h"
#include "log/file/file_follow.h"

int flume__file_gap(const struct flume_segment *segment, int64_t next_seq, struct flume_err *err) {
  return flume_err_set(err, FLUME_ECORRUPT,
                       "%s: byte %llu: the segment ends with seq %lld, the next one begins with %lld", segment->path,
                       (unsigned long long)segment->end_off, (long long)segment->next_seq - 1, (long long)next_seq);
}

static int each_name(void *arg, const char *name) {
  struct file_log *log = arg;
  const struct flume_io *io = log->log.io;
  if (flume_segment_is_temporary(name) && !log->log.readonly) { /* a segment whose creation was cut short */
    char path[FLUME_PATH_MAX];
    int rv = flume_path_join(path, sizeof path, log->log.dir, name);
    return rv == 0 ? io->unlink(io->ctx, path) : rv;
  }
  int64_t first_seq = flume_segment_seq_of(name);
  if (first_seq < 0) return 0; /* not ours */
  struct flume_segment *segment = flume_segment_new(io, log->log.dir, first_seq);
  if (segment == NULL) return FLUME_ENOMEM;
  int rv = flume__segments_collect(&log->segments, segment);
  if (rv != 0) flume_segment_unref(segment);
  return rv;
}

static int create_first(struct file_log *log, struct flume_err *err) {
  assert(log->segments.count == 0 && !log->log.readonly);
  int rv = uv_random(NULL, NULL, log->log.id, sizeof log->log.id, 0, NULL);
  if (rv != 0) return flume_err_set(err, rv, "making an id for %s: %s", log->log.dir, flume_strerror(rv));
  rv = flume_io_sync_name(log->log.io, log->log.dir); /* it may be there, and its name not be durable: see io.c */
  if (rv != 0) return flume_err_set(err, rv, "syncing the name of %s: %s", log->log.dir, flume_strerror(rv));
  struct flume_segment *segment = flume_segment_new(log->log.io, log->log.dir, 0);
  if (segment == NULL) return flume_err_nomem(err);
  rv = flume_segment_create(segment, log->log.dir, log->log.id, err);
  if (rv == 0 && flume__segments_collect(&log->segments, segment) != 0) rv = flume_err_nomem(err);
  if (rv != 0) flume_segment_unref(segment);
  return rv;
}

/* Makes sure that what is reported as recovered is on disk, and that nothing bad is left behind it. A log that was
 * closed in order may have crashed just before the sync of its end, so it is synced as well. One that was not may have
 * been killed between a rename and the sync of the directory: then its names are synced too. */
static int settle_tail(struct file_log *log, const struct flume_damage *damage, struct flume_err *err) {
  struct flume_segment *active = flume__file_active(log);
  assert(!log->log.readonly && active->file >= 0 && active->end_off >= FLUME_SEGMENT_HEADER_BYTES);
  const struct flume_io *io = log->log.io;
  int rv = 0;
  if (damage->why != NULL) {
    rv = io->truncate(io->ctx, active->file, active->end_off);
    active->file_bytes = active->zeroed_off = active->end_off;
  }
  if (rv == 0) rv = flume_segment_harden(active);
  if (rv != 0) return flume_err_set(err, rv, "cutting the torn end of %s: %s", active->path, flume_strerror(rv));
  rv = active->ended ? 0 : io->sync_dir(io->ctx, log->log.dir);
  return rv == 0 ? 0 : flume_err_set(err, rv, "syncing %s: %s", log->log.dir, flume_strerror(rv));
}

/* Opens the last segment; with damaged, the last one whose header is good, and none when there is none. */
static int open_active(struct file_log *log, bool damaged, struct flume_err *err) {
  struct flume_err why;
  while (log->segments.count > 0) {
    int rv = flume_segment_open(flume__file_active(log), log->log.readonly, &why);
    if (rv == 0) return 0;
    if (rv != FLUME_ECORRUPT || !damaged) {
      if (err != NULL) *err = why;
      return rv;
    }
    flume__segments_drop_last(&log->segments);
  }
  return 0;
}

static int load_active(struct file_log *log, bool damaged, struct flume_damage *damage, struct flume_err *err) {
  int rv = open_active(log, damaged, err);
  if (rv != 0 || log->segments.count == 0) return rv;
  struct flume_segment *active = flume__file_active(log);
  memcpy(log->log.id, active->log_id, 16);
  struct flume_err why;
  rv = flume_segment_peek(active, &why);
  if (rv != 0 && log->follow != NULL) return flume__file_follow_recover(log->follow, err);
  if (rv == FLUME_ENOENT) rv = flume_segment_load(active, damage, &why);
  if (rv == FLUME_ECORRUPT && damage->why != NULL && (damage->torn || damaged)) rv = 0;
  if (rv == 0 && active->sealed && !damaged) {
    rv = flume_err_set(&why, FLUME_ECORRUPT, "%s: byte %llu (seq %lld): the segment after this one is missing",
                       active->path, (unsigned long long)active->end_off, (long long)active->next_seq);
  }
  if (rv != 0 && err != NULL) *err = why;
  return rv;
}

/* The end frame said how far the segment goes. If its index turns out to be damaged the offsets come from a scan, and
 * the writer cuts the bad index, which carries no records, before anything is appended behind it. */
int flume__file_load_active(struct file_log *log, struct flume_err *err) {
  assert(flume__log_is_locked(&log->log) && !flume__file_active(log)->loaded);
  struct flume_segment *active = flume__file_active(log);
  int64_t next_seq = active->next_seq;
  struct flume_damage damage;
  struct flume_err why;
  int rv = log->log.readonly ? flume_segment_load_to(active, active->end_off, &damage, &why)
                             : flume_segment_load(active, &damage, &why);
  if (rv == FLUME_ECORRUPT && damage.torn && active->next_seq == next_seq) {
    log->unsettled = !log->log.readonly;
    rv = 0;
  }
  if (rv == 0 && active->next_seq != next_seq) {
    rv = flume_err_set(&why, FLUME_ECORRUPT, "%s: byte %llu (seq %lld): the end frame tells of records up to %lld",
                       active->path, (unsigned long long)active->end_off, (long long)active->next_seq,
                       (long long)next_seq - 1);
  }
  if (rv == 0) {
    active->durable_off = active->end_off; /* it was synced when the log was opened */
    return 0;
  }
  active->loaded = false;
  active->next_seq = next_seq;
  active->ended = true;
  if (err != NULL) *err = why;
  return rv;
}

int flume__file_settle_active(struct file_log *log, struct flume_err *err) {
  if (!log->unsettled) return 0;
  struct flume_damage damage = {.why = "a bad index"};
  int rv = flume__log_sync_begin(&log->log);
  if (rv != 0) return flume_err_set(err, rv, "syncing %s: %s", flume__file_active(log)->path, flume_strerror(rv));
  rv = flume__log_sync_end(&log->log, settle_tail(log, &damage, err));
  log->unsettled = rv != 0;
  return rv;
}

/* Without records in the active segment, the one before may not be sealed yet: the process died while it rolled. */
static int seal_previous(struct file_log *log, struct flume_err *err) {
  struct flume_segment *active = flume__file_active(log);
  assert(!log->log.readonly && !active->sealed);
  if (log->segments.count < 2 || active->next_seq > active->first_seq) return 0;
  flume__log_lock(&log->log);
  int rv = flume__segments_reserve(&log->segments);
  flume__log_unlock(&log->log);
  if (rv != 0) return flume_err_nomem(err);
  struct flume_segment *previous = log->segments.list[log->segments.count - 2];
  struct flume_damage damage = {0};
  struct flume_err why;
  rv = flume_segment_open(previous, false, &why);
  if (rv == 0) rv = flume_segment_peek(previous, &why);
  if (rv == FLUME_ENOENT) rv = flume_segment_load(previous, &damage, &why);
  if (rv == FLUME_ECORRUPT && damage.torn) rv = 0;
  flume__log_lock(&log->log);
  if (previous->loaded) flume__segments_loaded(&log->segments, previous);
  flume__log_unlock(&log->log);
  if (rv != 0) {
    if (err != NULL) *err = why;
    return rv;
  }
  if (previous->next_seq != active->first_seq) return flume__file_gap(previous, active->first_seq, err);
  rv = flume_segment_settle(previous, err);
  return rv == 0 ? flume_segment_seal(previous, err) : rv;
}

static int load_deleted(struct file_log *log, bool damaged, struct flume_err *err) {
  int rv;
  if (log->follow != NULL) {
    flume__log_lock(&log->log);
    rv = flume__file_follow_deletes(log->follow, err);
    flume__log_unlock(&log->log);
    return rv;
  }
  struct flume_err why;
  rv = flume__file_deleted_load(log, &why);
  if (rv == FLUME_ECORRUPT && damaged) rv = 0;
  if (rv != 0 && err != NULL) *err = why;
  return rv;
}

static int list_segments(struct file_log *log, struct flume_err *err) {
  const struct flume_io *io = log->log.io;
  int rv = io->list(io->ctx, log->log.dir, each_name, log);
  if (rv != 0) return flume_err_set(err, rv, "listing %s: %s", log->log.dir, flume_strerror(rv));
  flume__segments_sort(&log->segments);
  return 0;
}

/* A reader may have listed the directory just before the writer began the next segment. */
static int list_again(struct file_log *log, struct flume_err *err) {
  flume__segments_clear(&log->segments);
  return list_segments(log, err);
}

int flume__file_recover(struct file_log *log, bool damaged, struct flume_err *err) {
  int rv = list_segments(log, err);
  if (rv != 0) return rv;
  struct flume_damage damage = {0};
  bool fresh = log->segments.count == 0;
  if (fresh) {
    if (log->log.readonly) return flume_err_set(err, FLUME_ENOENT, "%s: there is no log here", log->log.dir);
    rv = create_first(log, err);
  } else {
    if (log->segments.list[0]->first_seq != 0 && damaged) { /* nothing is before the damage */
      flume__segments_clear(&log->segments);
      return 0;
    }
    if (log->segments.list[0]->first_seq != 0) {
      return flume_err_set(err, FLUME_ECORRUPT, "%s: the segment with seq 0 is missing; the first one is %s",
                           log->log.dir, log->segments.list[0]->path);
    }
    rv = load_active(log, damaged, &damage, err);
    if (rv == FLUME_ECORRUPT && log->log.readonly && flume__file_active(log)->sealed) {
      rv = list_again(log, err);
      if (rv == 0) rv = load_active(log, damaged, &damage, err);
    }
  }
  if (rv != 0) return rv;
  log->next_seq = log->segments.count > 0 ? flume__file_active(log)->next_seq : 0;
  log->log.since.value = log->log.durable_seq = log->next_seq - 1;
  rv = load_deleted(log, damaged, err);
  if (rv != 0 || fresh || log->log.readonly) return rv;
  rv = settle_tail(log, &damage, err);
  return rv == 0 ? seal_previous(log, err) : rv;
}
