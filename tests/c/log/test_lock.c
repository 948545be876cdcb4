/* One writer: who is refused, what he is told of who has the log, and when he may have it. */
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>

#include "broken_log.h"

static bool says(const char *text) {
  bool good = strstr(err.msg, text) != NULL;
  if (!good) printf("the text is: %s\n", err.msg);
  return good;
}

static bool names_pid(pid_t pid) {
  char text[24];
  snprintf(text, sizeof text, " %d", (int)pid);
  return says(text);
}

/* --- A writer in another process ------------------------------------------------------------------------------ */

struct holder {
  pid_t pid;
  int answers; /* what it writes */
};

static void answer_with(int fd, const void *data, size_t len) {
  if (write(fd, data, len) != (ssize_t)len) _exit(1);
}

static char answer_of(const struct holder *holder) {
  char answer = 0;
  MUST(read(holder->answers, &answer, 1) == 1);
  return answer;
}

static struct flume_log *open_held(void) {
  static uv_loop_t held;
  static const struct flume_log_options options = {.io = &flume_io_posix};
  struct flume_log *log = NULL;
  int64_t seq = -1;
  struct flume_slice record = slice_text("held");
  if (uv_loop_init(&held) != 0 || flume_log_open(&log, &held, dir, &options, NULL) != 0) return NULL;
  return flume_log_append_wait(log, &record, 1, &seq, NULL) == 0 ? log : NULL;
}

/* Holds the log open until it is killed. */
static void hold(int answers) {
  answer_with(answers, open_held() != NULL ? "y" : "n", 1);
  for (;;) pause();
}

/* A process that runs fn, which writes its answers to the descriptor that it gets. */
static struct holder holder_start(void (*fn)(int answers)) {
  int ends[2];
  MUST(pipe(ends) == 0);
  pid_t pid = fork();
  MUST(pid >= 0);
  if (pid == 0) {
    close(ends[0]);
    fn(ends[1]);
    _exit(0);
  }
  close(ends[1]);
  return (struct holder){pid, ends[0]};
}

static void holder_kill(struct holder *holder) {
  CHECK_INT_EQ(kill(holder->pid, SIGKILL), 0);
  CHECK_INT_EQ(waitpid(holder->pid, NULL, 0), holder->pid);
}

/* --- Who is refused ------------------------------------------------------------------------------------------- */

TEST(second_writer_in_this_process) {
  begin();
  struct flume_log *log = must_open(0);
  CHECK_INT_EQ(try_open_with(false, false), FLUME_ELOCKED);
  CHECK(names_pid(getpid()) && says("this one"));
  CHECK_INT_EQ(try_open_with(true, false), 0);
  CHECK_INT_EQ(try_open_with(false, false), FLUME_ELOCKED);
  log_close_wait(log, &loop);
  CHECK_INT_EQ(try_open_with(false, false), 0);
  end();
}

TEST(second_writer_in_another_process) {
  begin();
  struct holder holder = holder_start(hold);
  CHECK_INT_EQ(answer_of(&holder), 'y');
  CHECK_INT_EQ(try_open_with(false, false), FLUME_ELOCKED);
  CHECK(names_pid(holder.pid) && !strstr(err.msg, "gone"));
  struct flume_log *log = NULL;
  struct flume_log_options options = {.readonly = true, .io = &faults.io};
  CHECK_INT_EQ(try_open(&log, &options), 0);
  CHECK_INT_EQ(flume_log_since(log), 0);
  log_close_wait(log, &loop);
  holder_kill(&holder);
  log = must_open(0);
  CHECK_INT_EQ(flume_log_since(log), 0);
  goes_on(log);
  close(holder.answers);
  end();
}

/* The pid of a process in another namespace means something else here, or nothing. */
static void hold_in_a_namespace(int answers) {
  if (unshare(CLONE_NEWPID) != 0 && unshare(CLONE_NEWUSER | CLONE_NEWPID) != 0) {
    answer_with(answers, "?", 1);
    _exit(0);
  }
  pid_t pid = fork();
  if (pid == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    hold(answers);
  }
  close(answers);
  for (;;) pause();
}

TEST(second_writer_in_another_container) {
  begin();
  struct holder holder = holder_start(hold_in_a_namespace);
  char answer = answer_of(&holder), more;
  if (answer == 'y') {
    CHECK_INT_EQ(try_open_with(false, false), FLUME_ELOCKED);
    CHECK(says("process 1 of another container"));
    CHECK_INT_EQ(try_open_with(true, false), 0);
  }
  holder_kill(&holder);
  CHECK_INT_EQ(read(holder.answers, &more, 1), 0); /* all who could write there are gone */
  if (answer == 'y') CHECK_INT_EQ(try_open_with(false, false), 0);
  close(holder.answers);
  end();
  if (answer != 'y') SKIP("no pid namespace can be made here");
}

/* --- After a fork --------------------------------------------------------------------------------------------- */

/* The writer's child has the lock too. */
static void hold_with_a_child(int answers) {
  struct flume_log *log = open_held();
  pid_t pid = fork();
  if (pid == 0) {
    for (;;) pause();
  }
  answer_with(answers, log != NULL ? "y" : "n", 1);
  answer_with(answers, &pid, sizeof pid);
  for (;;) pause();
}

TEST(writer_gone_but_for_its_child) {
  begin();
  struct holder holder = holder_start(hold_with_a_child);
  pid_t child = 0;
  char more;
  CHECK_INT_EQ(answer_of(&holder), 'y');
  MUST(read(holder.answers, &child, sizeof child) == sizeof child);
  holder_kill(&holder);
  CHECK_INT_EQ(try_open_with(false, false), FLUME_ELOCKED);
  CHECK(names_pid(holder.pid) && says("gone"));
  CHECK_INT_EQ(kill(child, SIGKILL), 0);
  CHECK_INT_EQ(read(holder.answers, &more, 1), 0);
  CHECK_INT_EQ(try_open_with(false, false), 0);
  close(holder.answers);
  end();
}

/* In the child: what a copy of the handle may do. The exit status says where it went wrong. */
static int use_copy(struct flume_log *log) {
  struct flume_slice record = slice_text("copy");
  struct answer answer = {.calls = 0};
  int64_t seq = -1;
  uv_loop_t own;
  struct flume_log *again;
  if (flume_log_append_wait(log, &record, 1, &seq, &err) != FLUME_ELOCKED || !names_pid(getppid())) return 1;
  if (flume_log_append(log, &answer.req, &record, 1, on_answer, &err) != FLUME_ELOCKED) return 2;
  if (flume_log_del(log, &answer.req, (int64_t[]){0}, 1, on_answer, &err) != FLUME_ELOCKED) return 3;
  if (uv_loop_init(&own) != 0) return 4;
  if (flume_log_open(&again, &own, dir, NULL, &err) != FLUME_ELOCKED || !names_pid(getppid())) return 5;
  uv_run(&own, UV_RUN_DEFAULT);
  return uv_loop_close(&own) == 0 ? 0 : 6;
}

TEST(copy_of_the_handle_in_a_forked_process) {
  begin();
  struct flume_log *log = must_open(0);
  struct flume_slice record = slice_text("one");
  int64_t seq = -1;
  int status = -1;
  CHECK_INT_EQ(flume_log_append_wait(log, &record, 1, &seq, &err), 0);
  pid_t pid = fork();
  MUST(pid >= 0);
  if (pid == 0) child_exit(use_copy(log));
  CHECK_INT_EQ(waitpid(pid, &status, 0), pid);
  CHECK(WIFEXITED(status));
  CHECK_INT_EQ(WEXITSTATUS(status), 0);
  CHECK_INT_EQ(flume_log_since(log), 0);
  goes_on(log);
  end();
}

/* Closing the copy ends the process's part in the log, and does nothing to the file. */
TEST(closing_the_copy_writes_nothing) {
  begin();
  struct flume_log *log = must_open(0);
  struct flume_slice record = slice_text("one");
  int64_t seq = -1;
  struct image before = {.count = 0}, after = {.count = 0};
  CHECK_INT_EQ(flume_log_append_wait(log, &record, 1, &seq, &err), 0);
  image_take(&before, dir);
  pid_t pid = fork();
  MUST(pid >= 0);
  if (pid == 0) {
    alarm(60);
    if (uv_loop_fork(&loop) != 0) _exit(1);
    log_close_wait(log, &loop);
    child_exit(0);
  }
  int status = -1;
  CHECK_INT_EQ(waitpid(pid, &status, 0), pid);
  CHECK_INT_EQ(status, 0);
  image_take(&after, dir);
  CHECK_INT_EQ(before.files[0].len, after.files[0].len);
  CHECK(memcmp(before.files[0].data, after.files[0].data, before.files[0].len) == 0);
  image_free(&before);
  image_free(&after);
  goes_on(log);
  end();
}
