/* A line is read by one call of el_wgets, which asks read_key for each character. read_key waits for bytes, and calls
 * idle meanwhile. It decodes UTF-8 by itself: a byte that is not UTF-8 is kept as U+DC00 + byte, and becomes that byte
 * again in the line, so that the line has the bytes that were typed whatever the locale.
 *
 * Bytes are read one at a time, since what follows Enter may be for the statement. Only a bracketed paste is read in
 * pieces: the terminal marks its two ends, and paste inserts all of it as text, tabs and line breaks included.
 *
 * libedit's own functions for the previous and next entry of the history keep 1023 characters of the line that is left,
 * so that the two here keep that line themselves. */
#include "line_editor.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include <wchar.h>

#include <histedit.h>
#include <lauxlib.h>

#include "interrupt.h"

#define PASTE_BEGIN L"\\e[200~"
#define PASTE_END "\33[201~"
#define ODD_BYTE 0xdc00 /* + byte: a byte that is not UTF-8 */
#define MAX_PROMPT 64

/* How the reading of a line ended. */
enum end { END_NONE, END_EOF, END_INTERRUPTED, END_ERROR };

static struct {
  EditLine *el; /* NULL until the first line is read */
  HistoryW *history;
  wchar_t prompt[MAX_PROMPT];
  struct winsize size;

  /* While a line is read. */
  lua_State *reader; /* the coroutine that reads; idle is at 2; NULL when no line is read */
  enum end end;
  int status;     /* of idle's call, LUA_OK or an error whose object is on the stack */
  int wait_ms;    /* for how long idle need not be called */
  bool is_hidden; /* the prompt is not on the screen */

  /* Bytes that were read and not used yet. */
  uint8_t bytes[4096];
  size_t at, len;

  /* The history. */
  int entry;       /* how many entries back the line is from; 0 for one that was typed */
  wchar_t *typed;  /* the line that was left for the history */
  wchar_t *tabbed; /* the line at the last Tab that added nothing */
} editor;

static const char completer_key[] = "flume.completer"; /* of the registry */

bool flume_line_editor_is_dumb(void) {
  const char *term = getenv("TERM");
  return term == NULL || *term == '\0' || strcmp(term, "dumb") == 0;
}

/* --- Bytes and characters ------------------------------------------------------------------------------------------- */

/* Decodes the character at p, of which len bytes are there, at least one. Returns how many it has; 0 when more have to
 * come. */
static size_t decode(const uint8_t *p, size_t len, wchar_t *out) {
  size_t size = p[0] < 0x80 ? 1 : p[0] >= 0xc2 && p[0] < 0xe0 ? 2 : (p[0] & 0xf0) == 0xe0 ? 3 : p[0] < 0xf5 ? 4 : 1;
  uint32_t code = p[0];
  if (p[0] >= 0x80 && p[0] < 0xc2) size = 1;
  if (size > 1) code &= 0x7fu >> size;
  for (size_t i = 1; i < size; i++) {
    if (i == len) return 0;
    if ((p[i] & 0xc0) != 0x80) {
      size = 1;
      break;
    }
    code = code << 6 | (p[i] & 0x3fu);
  }
  if (size == 1) code = p[0] < 0x80 ? p[0] : ODD_BYTE + p[0];
  if (size == 3 && (code < 0x800 || (code >= 0xd800 && code < 0xe000))) size = 1, code = ODD_BYTE + p[0];
  if (size == 4 && (code < 0x10000 || code > 0x10ffff)) size = 1, code = ODD_BYTE + p[0];
  *out = (wchar_t)code;
  return size;
}

/* The characters of bytes; to be freed. NULL for no memory. */
static wchar_t *to_wide(const char *bytes, size_t len) {
  wchar_t *text = calloc(len + 1, sizeof *text), *to = text;
  for (size_t at = 0, size; text != NULL && at < len; at += size) {
    size = decode((const uint8_t *)bytes + at, len - at, to);
    if (size == 0) *to = (wchar_t)(ODD_BYTE + (uint8_t)bytes[at]), size = 1;
    to++;
  }
  return text;
}

static char *encode(char *to, wchar_t c) {
  uint32_t code = (uint32_t)c;
  if (code < 0x80) {
    *to++ = (char)code;
  } else if (code >= ODD_BYTE + 0x80 && code <= ODD_BYTE + 0xff) {
    *to++ = (char)(code - ODD_BYTE);
  } else if (code < 0x800) {
    *to++ = (char)(0xc0 | code >> 6);
    *to++ = (char)(0x80 | (code & 0x3f));
  } else {
    if (code < 0x10000) {
      *to++ = (char)(0xe0 | code >> 12);
    } else {
      *to++ = (char)(0xf0 | code >> 18);
      *to++ = (char)(0x80 | (code >> 12 & 0x3f));
    }
    *to++ = (char)(0x80 | (code >> 6 & 0x3f));
    *to++ = (char)(0x80 | (code & 0x3f));
  }
  return to;
}

/* Pushes the bytes of characters. Raises memory errors. */
static void push_text(lua_State *L, const wchar_t *text, size_t count) {
  luaL_Buffer buffer;
  char *bytes = luaL_buffinitsize(L, &buffer, count * 4 + 1), *to = bytes;
  for (size_t i = 0; i < count; i++) to = encode(to, text[i]);
  luaL_pushresultsize(&buffer, (size_t)(to - bytes));
}

/* --- The screen ----------------------------------------------------------------------------------------------------- */

static void clear_line(void) {
  fputs(flume_line_editor_is_dumb() ? "\n" : "\r\33[K", stdout);
  fflush(stdout);
}

static void redraw(void) {
  el_wset(editor.el, EL_REFRESH);
  fflush(stdout);
}

static void show_prompt(void) {
  if (!editor.is_hidden) return;
  editor.is_hidden = false;
  if (!flume_line_editor_is_dumb()) clear_line();
  redraw();
}

static size_t line_length(void) {
  const LineInfoW *line = el_wline(editor.el);
  return (size_t)(line->lastchar - line->buffer);
}

int flume_line_editor_hide(lua_State *L) {
  bool is_empty = editor.reader != NULL && line_length() == 0;
  if (is_empty && !editor.is_hidden) {
    clear_line();
    editor.is_hidden = true;
  }
  lua_pushboolean(L, is_empty);
  return 1;
}

/* Whether the terminal marks what is pasted. */
static void mark_pastes(bool on) {
  if (!flume_line_editor_is_dumb()) fputs(on ? "\33[?2004h" : "\33[?2004l", stdout);
  fflush(stdout);
}

static void follow_size(void) {
  struct winsize size = {0};
  if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0) return;
  if (size.ws_col == editor.size.ws_col && size.ws_row == editor.size.ws_row) return;
  editor.size = size;
  el_resize(editor.el);
}

/* --- Waiting for keys ----------------------------------------------------------------------------------------------- */

/* A signal to end may have come, and been taken, before there was a prompt. */
static bool is_interrupted(void) {
  return flume_interrupt_pending() || flume_interrupt_terminated();
}

static void call_idle(void) {
  lua_State *L = editor.reader;
  int top = lua_gettop(L);
  lua_pushvalue(L, 2);
  editor.status = lua_pcall(L, 0, 2, 0);
  if (editor.status != LUA_OK) {
    editor.end = END_ERROR;
    return;
  }
  editor.wait_ms = (int)lua_tointeger(L, -2);
  if (!lua_toboolean(L, -1)) show_prompt();
  lua_settop(L, top);
}

/* Waits for input, and reads up to max bytes of it. Returns whether there are bytes; editor.end tells why not. */
static bool fill(size_t max) {
  struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};
  while (editor.at == editor.len && editor.end == END_NONE) {
    int ready = is_interrupted() ? -1 : poll(&input, 1, editor.wait_ms);
    if (is_interrupted()) {
      editor.end = END_INTERRUPTED;
    } else if (ready > 0 && (input.revents & POLLIN)) {
      ssize_t n = read(STDIN_FILENO, editor.bytes, max);
      editor.at = 0;
      editor.len = n > 0 ? (size_t)n : 0;
      if (n == 0 || (n < 0 && errno != EINTR && errno != EAGAIN)) editor.end = END_EOF;
    } else if (ready > 0) {
      editor.end = END_EOF; /* the terminal has gone */
    } else if (ready == 0) {
      follow_size();
      call_idle();
    }
  }
  return editor.at < editor.len;
}

/* The next character: 1, or -1 when the line ends without it. */
static int read_key(EditLine *el, wchar_t *c) {
  uint8_t bytes[4];
  size_t len = 0;
  (void)el;
  do {
    if (!fill(1)) return -1;
    bytes[len++] = editor.bytes[editor.at++];
  } while (decode(bytes, len, c) == 0);
  if (decode(bytes, len, c) < len) { /* a byte that goes on with none of the others is read again */
    memmove(editor.bytes, bytes + 1, len - 1);
    editor.at = 0;
    editor.len = len - 1;
  }
  follow_size();
  show_prompt();
  return 1;
}

/* --- Pasting -------------------------------------------------------------------------------------------------------- */

/* What is pasted, without the mark at its end. */
struct pasted {
  char *bytes;
  size_t len;
  size_t cap;
};

static bool add_byte(struct pasted *pasted, char byte) {
  if (pasted->len == pasted->cap) {
    size_t cap = pasted->cap > 0 ? pasted->cap * 2 : 4096;
    char *bytes = realloc(pasted->bytes, cap);
    if (bytes == NULL) return false;
    pasted->bytes = bytes;
    pasted->cap = cap;
  }
  pasted->bytes[pasted->len++] = byte;
  return true;
}

static bool has_end(const struct pasted *pasted) {
  size_t mark = sizeof PASTE_END - 1;
  return pasted->len >= mark && memcmp(pasted->bytes + pasted->len - mark, PASTE_END, mark) == 0;
}

/* Line breaks become '\n'; a NUL would end the line. */
static size_t normalize(char *bytes, size_t len) {
  char *to = bytes;
  for (size_t i = 0; i < len; i++) {
    if (bytes[i] == '\r' && i + 1 < len && bytes[i + 1] == '\n') continue;
    if (bytes[i] != '\0') *to++ = (char)(bytes[i] == '\r' ? '\n' : bytes[i]);
  }
  return (size_t)(to - bytes);
}

/* The terminal says that what follows is pasted. */
static unsigned char paste(EditLine *el, wint_t key) {
  struct pasted pasted = {NULL, 0, 0};
  unsigned char result = CC_ERROR;
  bool is_complete = false;
  (void)key;
  while (!is_complete && fill(sizeof editor.bytes)) {
    if (!add_byte(&pasted, (char)editor.bytes[editor.at++])) break;
    is_complete = has_end(&pasted);
  }
  if (is_complete) {
    size_t len = normalize(pasted.bytes, pasted.len - (sizeof PASTE_END - 1));
    wchar_t *text = to_wide(pasted.bytes, len);
    if (text != NULL && el_winsertstr(el, text) == 0) result = CC_REFRESH;
    free(text);
  }
  free(pasted.bytes);
  return result;
}

/* --- The history ---------------------------------------------------------------------------------------------------- */

static bool set_line(const wchar_t *text) {
  size_t len = line_length();
  el_cursor(editor.el, (int)len);
  el_deletestr(editor.el, (int)line_length());
  return *text == L'\0' || el_winsertstr(editor.el, text) == 0;
}

/* The text of the nth entry from the end, from 1; NULL when there are not so many. */
static const wchar_t *entry_at(int n) {
  HistEventW event;
  int rv = history_w(editor.history, &event, H_FIRST);
  while (rv == 0 && --n > 0) rv = history_w(editor.history, &event, H_NEXT);
  return rv == 0 ? event.str : NULL;
}

static unsigned char show_entry(int n) {
  const LineInfoW *line = el_wline(editor.el);
  const wchar_t *text;
  if (n < 0) return CC_ERROR;
  if (editor.entry == 0) {
    size_t len = line_length();
    free(editor.typed);
    editor.typed = calloc(len + 1, sizeof *editor.typed);
    if (editor.typed == NULL) return CC_ERROR;
    wmemcpy(editor.typed, line->buffer, len);
  }
  text = n > 0 ? entry_at(n) : editor.typed;
  if (text == NULL || !set_line(text)) return CC_ERROR;
  editor.entry = n;
  return CC_REFRESH;
}

static unsigned char previous_entry(EditLine *el, wint_t key) {
  (void)el, (void)key;
  return show_entry(editor.entry + 1);
}

static unsigned char next_entry(EditLine *el, wint_t key) {
  (void)el, (void)key;
  return show_entry(editor.entry - 1);
}

/* --- Completion ----------------------------------------------------------------------------------------------------- */

static bool is_word_break(wchar_t c) {
  return wcschr(L" \t\n\"'`=<>~;,|&+-*/%^#(){}[]", c) != NULL;
}

/* Pushes what the word from `first` to the cursor may become. False when there is nothing. */
static bool push_words(lua_State *L, const LineInfoW *line, const wchar_t *first) {
  lua_getfield(L, LUA_REGISTRYINDEX, completer_key);
  if (!lua_isfunction(L, -1)) return false;
  push_text(L, line->buffer, (size_t)(line->lastchar - line->buffer));
  push_text(L, line->buffer, (size_t)(first - line->buffer));
  push_text(L, line->buffer, (size_t)(line->cursor - line->buffer));
  size_t before = lua_rawlen(L, -2), last = lua_rawlen(L, -1);
  lua_pop(L, 2);
  lua_pushinteger(L, (lua_Integer)before + 1);
  lua_pushinteger(L, (lua_Integer)last);
  return lua_pcall(L, 3, 1, 0) == LUA_OK && lua_istable(L, -1);
}

/* The words of the list on top, in columns below the line. */
static void print_words(lua_State *L) {
  lua_Integer count = (lua_Integer)lua_rawlen(L, -1), columns;
  size_t width = 0;
  for (lua_Integer i = 2; i <= count; i++) {
    size_t len;
    lua_rawgeti(L, -1, i);
    lua_tolstring(L, -1, &len);
    if (len > width) width = len;
    lua_pop(L, 1);
  }
  columns = editor.size.ws_col / (lua_Integer)(width + 2);
  if (columns < 1) columns = 1;
  for (lua_Integer i = 2; i <= count; i++) {
    bool is_first = (i - 2) % columns == 0, is_last = (i - 1) % columns == 0 || i == count;
    lua_rawgeti(L, -1, i);
    printf("%s%-*s", is_first ? "\n" : "  ", is_last ? 0 : (int)width, lua_tostring(L, -1));
    lua_pop(L, 1);
  }
  putchar('\n');
}

/* Whether the line is the same as at the last Tab; notes it. */
static bool is_tabbed_again(const LineInfoW *line) {
  size_t len = (size_t)(line->cursor - line->buffer);
  bool is_same =
      editor.tabbed != NULL && wcslen(editor.tabbed) == len && wmemcmp(editor.tabbed, line->buffer, len) == 0;
  free(editor.tabbed);
  editor.tabbed = calloc(len + 1, sizeof *editor.tabbed);
  if (editor.tabbed != NULL) wmemcpy(editor.tabbed, line->buffer, len);
  return is_same;
}

/* Puts what all words of the list on top begin with in the place of the word. Returns whether that changes the line. */
static bool replace_word(lua_State *L, const LineInfoW *line, const wchar_t *first) {
  size_t len, count = (size_t)(line->cursor - first);
  const char *common;
  wchar_t *text;
  bool is_new;
  lua_rawgeti(L, -1, 1);
  common = lua_tolstring(L, -1, &len);
  text = common != NULL ? to_wide(common, len) : NULL;
  is_new = text != NULL && (wcslen(text) != count || wmemcmp(text, first, count) != 0);
  if (is_new) {
    el_deletestr(editor.el, (int)count);
    is_new = *text == L'\0' || el_winsertstr(editor.el, text) == 0;
  }
  free(text);
  lua_pop(L, 1);
  return is_new;
}

/* In protected mode: pushes the CC_ code of a Tab. */
static int complete_word(lua_State *L) {
  const LineInfoW *line = el_wline(editor.el);
  const wchar_t *first = line->cursor;
  unsigned char result = CC_ERROR;
  while (first > line->buffer && !is_word_break(first[-1])) first--;
  if (push_words(L, line, first)) {
    bool is_choice = lua_rawlen(L, -1) > 2;
    bool is_listed = is_choice && is_tabbed_again(line);
    if (replace_word(L, line, first)) {
      if (is_choice) (void)is_tabbed_again(el_wline(editor.el));
      result = CC_REFRESH;
    } else if (is_listed) {
      print_words(L);
      redraw();
      result = CC_NORM;
    }
  }
  lua_pushinteger(L, result);
  return 1;
}

static unsigned char complete(EditLine *el, wint_t key) {
  lua_State *L = editor.reader;
  int top = lua_gettop(L);
  unsigned char result = CC_ERROR;
  (void)el, (void)key;
  lua_pushcfunction(L, complete_word);
  if (lua_pcall(L, 0, 1, 0) == LUA_OK) result = (unsigned char)lua_tointeger(L, -1);
  lua_settop(L, top);
  return result;
}

int flume_line_editor_set_completer(lua_State *L) {
  luaL_checktype(L, 1, LUA_TFUNCTION);
  lua_setfield(L, LUA_REGISTRYINDEX, completer_key);
  return 0;
}

/* --- Setting up ----------------------------------------------------------------------------------------------------- */

static const wchar_t *prompt(EditLine *el) {
  (void)el;
  return editor.prompt;
}

/* Ctrl-Z: the shell gets the terminal as it was. */
static unsigned char suspend(EditLine *el, wint_t key) {
  (void)key;
  mark_pastes(false);
  el_wset(el, EL_PREP_TERM, 0);
  kill(0, SIGTSTP);
  el_wset(el, EL_PREP_TERM, 1);
  mark_pastes(true);
  redraw();
  return CC_NORM;
}

static const struct {
  const wchar_t *name, *help;
  unsigned char (*fn)(EditLine *, wint_t);
} functions[] = {
    {L"flume-complete", L"Completes the word", complete},
    {L"flume-paste", L"Inserts what is pasted", paste},
    {L"flume-previous", L"The entry before in the history", previous_entry},
    {L"flume-next", L"The next entry of the history", next_entry},
    {L"flume-suspend", L"Stops the process", suspend},
};

static const wchar_t *const bindings[][2] = {
    {L"^I", L"flume-complete"},       {PASTE_BEGIN, L"flume-paste"},  {L"^P", L"flume-previous"},
    {L"\\e[A", L"flume-previous"},    {L"\\eOA", L"flume-previous"},  {L"^N", L"flume-next"},
    {L"\\e[B", L"flume-next"},        {L"\\eOB", L"flume-next"},      {L"^Z", L"flume-suspend"},
    {L"\\e[1~", L"ed-move-to-beg"},   {L"\\e[7~", L"ed-move-to-beg"}, {L"\\e[H", L"ed-move-to-beg"},
    {L"\\eOH", L"ed-move-to-beg"},    {L"\\e[4~", L"ed-move-to-end"}, {L"\\e[8~", L"ed-move-to-end"},
    {L"\\e[F", L"ed-move-to-end"},    {L"\\eOF", L"ed-move-to-end"},  {L"\\e[3~", L"ed-delete-next-char"},
    {L"\\e[2~", L"ed-quoted-insert"}, {L"\\e[1;5C", L"em-next-word"}, {L"\\e[1;5D", L"ed-prev-word"},
    {L"\\e[5C", L"em-next-word"},     {L"\\e[5D", L"ed-prev-word"},
};

/* Makes the editor. Raises an error when that can't be. */
static void open_editor(lua_State *L) {
  if (editor.el != NULL) return;
  if (editor.history == NULL) editor.history = history_winit();
  editor.el = editor.history != NULL ? el_init("flume", stdin, stdout, stderr) : NULL;
  if (editor.el == NULL) luaL_error(L, "the terminal can't be used: out of memory");
  el_wset(editor.el, EL_SIGNAL, 0);
  el_wset(editor.el, EL_EDITOR, L"emacs");
  el_wset(editor.el, EL_PROMPT, prompt);
  el_wset(editor.el, EL_HIST, history_w, editor.history);
  el_wset(editor.el, EL_GETCFN, read_key);
  for (size_t i = 0; i < sizeof functions / sizeof functions[0]; i++) {
    el_wset(editor.el, EL_ADDFN, functions[i].name, functions[i].help, functions[i].fn);
  }
  for (size_t i = 0; i < sizeof bindings / sizeof bindings[0]; i++) {
    el_wset(editor.el, EL_BIND, bindings[i][0], bindings[i][1], NULL);
  }
  el_source(editor.el, NULL);
}

int flume_line_editor_bind(lua_State *L) {
  const char *text = luaL_checkstring(L, 1);
  const char **words;
  int count;
  open_editor(L);
  Tokenizer *tokenizer = tok_init(NULL);
  if (tokenizer == NULL) return luaL_error(L, "out of memory");
  if (tok_str(tokenizer, text, &count, &words) == 0) el_parse(editor.el, count, words);
  tok_end(tokenizer);
  return 0;
}

int flume_line_editor_history_limit(lua_State *L) {
  HistEventW event;
  open_editor(L);
  history_w(editor.history, &event, H_SETSIZE, (int)luaL_checkinteger(L, 1));
  return 0;
}

int flume_line_editor_history_add(lua_State *L) {
  size_t len;
  const char *bytes = luaL_checklstring(L, 1, &len);
  HistEventW event;
  open_editor(L);
  wchar_t *text = to_wide(bytes, len);
  if (text != NULL) history_w(editor.history, &event, H_ENTER, text);
  free(text);
  return 0;
}

/* --- Reading a line ------------------------------------------------------------------------------------------------- */

static void set_prompt(const char *text) {
  wchar_t *wide = to_wide(text, strlen(text));
  wcsncpy(editor.prompt, wide != NULL ? wide : L"", MAX_PROMPT - 1);
  free(wide);
}

int flume_line_editor_read(lua_State *L) {
  const char *text = luaL_checkstring(L, 1);
  const wchar_t *line;
  int count = 0;
  luaL_checktype(L, 2, LUA_TFUNCTION);
  lua_settop(L, 2);
  fflush(stdout);
  flume_interrupt_keep_process();
  flume_interrupt_take();
  open_editor(L);
  set_prompt(text);
  editor.reader = L;
  editor.end = END_NONE;
  editor.status = LUA_OK;
  editor.wait_ms = editor.entry = 0;
  editor.is_hidden = false;
  follow_size();
  el_wset(editor.el, EL_PREP_TERM, 1); /* before the prompt is seen: a line that is not raw has 4095 bytes at most */
  mark_pastes(true);
  line = el_wgets(editor.el, &count);
  mark_pastes(false);
  editor.reader = NULL;
  flume_interrupt_take();
  if (editor.status != LUA_OK) return lua_error(L);
  if (line != NULL && count > 0) {
    push_text(L, line, (size_t)count - (line[count - 1] == L'\n'));
    return 1;
  }
  puts(editor.end == END_INTERRUPTED ? "^C" : "");
  lua_pushnil(L);
  lua_pushstring(L, editor.end == END_INTERRUPTED ? "interrupted" : "eof");
  return 2;
}
