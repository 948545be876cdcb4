/* require "flume.text": the words of a text, for full-text search. It is a module of its own, so that the core does
 * not link utf8proc, Snowball's stemmers and ICU.
 *
 *   analyser([language]) -> function (text) -> words, terms
 *       words   a list of the text's words, case folded, compatibility composed (NFKC), without the diacritics of Latin,
 *               Greek and Cyrillic letters
 *       terms   the same words, each as its stem, if there is a language
 *   languages() -> list of the languages whose words can be stemmed
 *   version     text; it changes when the words of a text may change
 *   segments    whether words are found in scripts without spaces, see segmenter.h
 *
 * A word is a run of letters, digits and marks. An ideograph or a kana, with the marks behind it, is a word of its
 * own. Bytes that are not UTF-8 lie between words, and so does U+200B (ZERO WIDTH SPACE); other invisible characters,
 * such as the soft hyphen, are left out. Of a word of more than 64 characters, marks counted, the rest is left out.
 *
 * Marks: those on Latin, Greek and Cyrillic letters are left out, since people leave them out: "resume" finds
 * "résumé". In other scripts a mark makes a letter a different one (the voicing mark of kana) or is a vowel (Indic
 * scripts): it is kept. Marks go after the stem is taken, since stemmers know them. */
#include <lauxlib.h>
#include <libstemmer.h>
#include <lua.h>
#include <stdbool.h>
#include <string.h>
#include <utf8proc.h>

#include "text/segmenter.h"

#define ANALYSER_TYPE "flume.text.analyser"
#define ANALYSIS 2 /* raised when the words of a text change */
#define WORD_MAX_CHARS 64
#define CHAR_MAX_BYTES 4
#define PARTS_MAX 8 /* of one character, decomposed canonically */
#define WORD_MAX_BYTES (WORD_MAX_CHARS * CHAR_MAX_BYTES * PARTS_MAX)
#define ZERO_WIDTH_SPACE 0x200b

int luaopen_flume_text(lua_State *L);

struct analyser {
  struct sb_stemmer *stemmer;        /* NULL: no language */
  struct flume_segmenter *segmenter; /* NULL: none, see segmenter.h */
};

/* Where things are on the stack of analyse. */
enum { AT_TEXT = 1, AT_CLEAN, AT_SEGMENTED, AT_CHARS, AT_WORDS, AT_TERMS };

/* --- Text to characters ------------------------------------------------------------------------------------------ */

/* Pushes a copy of the text with spaces in place of bytes that are not UTF-8, and of U+200B. *segments counts the
 * characters that a segmenter wants. */
static const utf8proc_uint8_t *push_clean(lua_State *L, const char *text, size_t len, size_t *segments) {
  utf8proc_uint8_t *clean = lua_newuserdatauv(L, len + 1, 0);
  memcpy(clean, text, len);
  *segments = 0;
  for (size_t i = 0; i < len;) {
    utf8proc_int32_t character;
    utf8proc_ssize_t read = utf8proc_iterate(clean + i, (utf8proc_ssize_t)(len - i), &character);
    if (read <= 0) read = 1, character = ZERO_WIDTH_SPACE;
    if (character == ZERO_WIDTH_SPACE) memset(clean + i, ' ', (size_t)read);
    else *segments += flume_segmenter_wants(character);
    i += (size_t)read;
  }
  return clean;
}

/* Bytes of the run of characters that a segmenter wants, and of those that it doesn't for is_wanted false. */
static size_t measure_run(const utf8proc_uint8_t *text, size_t len, bool is_wanted) {
  size_t i = 0;
  while (i < len) {
    utf8proc_int32_t character;
    utf8proc_ssize_t read = utf8proc_iterate(text + i, (utf8proc_ssize_t)(len - i), &character);
    if (read <= 0 || flume_segmenter_wants(character) != is_wanted) break;
    i += (size_t)read;
  }
  return i;
}

/* Pushes the text with a space at each boundary of words that the segmenter finds. segments: characters that it
 * wants. */
static const utf8proc_uint8_t *push_segmented(lua_State *L, struct flume_segmenter *segmenter,
                                              const utf8proc_uint8_t *text, size_t *len, size_t segments) {
  utf8proc_uint8_t *out = lua_newuserdatauv(L, *len + segments + 1, 0);
  size_t out_len = 0;
  for (size_t i = 0; i < *len;) {
    size_t other = measure_run(text + i, *len - i, false);
    memcpy(out + out_len, text + i, other);
    out_len += other;
    i += other;
    size_t run = measure_run(text + i, *len - i, true);
    if (run > 0 && !flume_segmenter_begin(segmenter, text + i, run)) luaL_error(L, "not enough memory");
    for (size_t start = 0; start < run;) {
      size_t end = flume_segmenter_next(segmenter, run);
      if (end <= start) end = run;
      memcpy(out + out_len, text + i + start, end - start);
      out_len += end - start;
      if (end < run) out[out_len++] = ' ';
      start = end;
    }
    i += run;
  }
  *len = out_len;
  return out;
}

/* Pushes the characters, case folded and decomposed; *count says how many. */
static const utf8proc_int32_t *push_characters(lua_State *L, const utf8proc_uint8_t *text, size_t len, size_t *count) {
  utf8proc_option_t options =
      UTF8PROC_STABLE | UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT | UTF8PROC_CASEFOLD | UTF8PROC_IGNORE;
  utf8proc_ssize_t room = (utf8proc_ssize_t)len + 16, wanted;
  utf8proc_int32_t *characters = lua_newuserdatauv(L, (size_t)room * sizeof *characters, 0);
  wanted = utf8proc_decompose(text, (utf8proc_ssize_t)len, characters, room, options);
  if (wanted > room) {
    lua_pop(L, 1);
    characters = lua_newuserdatauv(L, (size_t)wanted * sizeof *characters, 0);
    wanted = utf8proc_decompose(text, (utf8proc_ssize_t)len, characters, wanted, options);
  }
  if (wanted < 0) luaL_error(L, "%s", utf8proc_errmsg(wanted));
  *count = (size_t)wanted;
  return characters;
}

/* --- Characters to words ----------------------------------------------------------------------------------------- */

enum kind { KIND_BETWEEN, KIND_LETTER, KIND_MARK, KIND_ALONE };

static bool is_alone(utf8proc_int32_t c) {
  return (c >= 0x3040 && c <= 0x30ff) || (c >= 0x3400 && c <= 0x4dbf) || (c >= 0x4e00 && c <= 0x9fff) ||
         (c >= 0xf900 && c <= 0xfaff) || (c >= 0x20000 && c <= 0x3ffff);
}

static enum kind kind_of(utf8proc_int32_t c) {
  switch (utf8proc_category(c)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO: return is_alone(c) ? KIND_ALONE : KIND_LETTER;
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_NO: return KIND_LETTER;
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME: return KIND_MARK;
    default: return KIND_BETWEEN;
  }
}

static bool is_diacritic(utf8proc_int32_t c) {
  return (c >= 0x300 && c <= 0x36f) || (c >= 0x483 && c <= 0x489) || (c >= 0x1ab0 && c <= 0x1aff) ||
         (c >= 0x1dc0 && c <= 0x1dff) || (c >= 0x20d0 && c <= 0x20ff) || (c >= 0xfe20 && c <= 0xfe2f);
}

/* Whether diacritics on the letter are left out: digits, Latin, Greek and Cyrillic. */
static bool drops_diacritics(utf8proc_int32_t c) {
  return (c < 0x530) || (c >= 0x1c80 && c <= 0x1c8f) || (c >= 0x1e00 && c <= 0x1fff) || (c >= 0x2c60 && c <= 0x2c7f) ||
         (c >= 0xa640 && c <= 0xa69f) || (c >= 0xa720 && c <= 0xa7ff) || (c >= 0xab30 && c <= 0xab6f);
}

/* Pushes the UTF-8 text without diacritics; what is kept is composed again. */
static void push_without_diacritics(lua_State *L, const utf8proc_uint8_t *text, size_t len) {
  utf8proc_int32_t bare[WORD_MAX_CHARS * PARTS_MAX], base = 0;
  utf8proc_uint8_t bytes[WORD_MAX_BYTES];
  utf8proc_ssize_t bare_len = 0;
  for (size_t i = 0; i < len;) {
    utf8proc_int32_t character, parts[PARTS_MAX];
    int last_boundclass = 0;
    utf8proc_ssize_t read = utf8proc_iterate(text + i, (utf8proc_ssize_t)(len - i), &character);
    if (read <= 0) break; /* a stemmer has cut it: it never does */
    i += (size_t)read;
    utf8proc_ssize_t count = utf8proc_decompose_char(character, parts, PARTS_MAX, UTF8PROC_DECOMPOSE, &last_boundclass);
    for (utf8proc_ssize_t part = 0; part < count && part < PARTS_MAX; part++) {
      bool is_dropped = is_diacritic(parts[part]) && drops_diacritics(base);
      if (kind_of(parts[part]) != KIND_MARK) base = parts[part];
      if (!is_dropped && bare_len < WORD_MAX_CHARS * PARTS_MAX) bare[bare_len++] = parts[part];
    }
  }
  size_t bytes_len = 0;
  bare_len = utf8proc_normalize_utf32(bare, bare_len, UTF8PROC_STABLE | UTF8PROC_COMPOSE);
  for (utf8proc_ssize_t i = 0; i < bare_len; i++) {
    bytes_len += (size_t)utf8proc_encode_char(bare[i], bytes + bytes_len);
  }
  lua_pushlstring(L, (const char *)bytes, bytes_len);
}

/* Adds a word to both lists. */
static void add_word(lua_State *L, struct sb_stemmer *stemmer, utf8proc_int32_t *characters, size_t count,
                     lua_Integer place) {
  utf8proc_uint8_t word[WORD_MAX_CHARS * CHAR_MAX_BYTES];
  utf8proc_ssize_t composed =
      utf8proc_normalize_utf32(characters, (utf8proc_ssize_t)count, UTF8PROC_STABLE | UTF8PROC_COMPOSE);
  size_t len = 0;
  for (utf8proc_ssize_t i = 0; i < composed; i++) len += (size_t)utf8proc_encode_char(characters[i], word + len);
  push_without_diacritics(L, word, len);
  lua_rawseti(L, AT_WORDS, place);
  const utf8proc_uint8_t *term = word;
  if (stemmer != NULL) {
    term = sb_stemmer_stem(stemmer, word, (int)len);
    if (term == NULL) luaL_error(L, "not enough memory");
    len = (size_t)sb_stemmer_length(stemmer);
  }
  push_without_diacritics(L, term, len);
  lua_rawseti(L, AT_TERMS, place);
}

/* Adds the words of the characters. */
static void add_words(lua_State *L, struct sb_stemmer *stemmer, const utf8proc_int32_t *characters, size_t count) {
  utf8proc_int32_t word[WORD_MAX_CHARS];
  size_t chars = 0;
  lua_Integer words = 0;
  bool is_complete = false; /* but for marks */
  for (size_t i = 0; i <= count; i++) {
    enum kind kind = i < count ? kind_of(characters[i]) : KIND_BETWEEN;
    if (kind == KIND_MARK && chars == 0) continue;
    if (chars > 0 && (kind == KIND_BETWEEN || kind == KIND_ALONE || (kind == KIND_LETTER && is_complete))) {
      add_word(L, stemmer, word, chars, ++words);
      chars = 0;
    }
    if (kind == KIND_ALONE || kind == KIND_LETTER) is_complete = kind == KIND_ALONE;
    if (kind != KIND_BETWEEN && chars < WORD_MAX_CHARS) word[chars++] = characters[i];
  }
}

static int analyse(lua_State *L) {
  struct analyser *self = lua_touserdata(L, lua_upvalueindex(1));
  size_t len, count, segments;
  const char *text = luaL_checklstring(L, AT_TEXT, &len);
  luaL_argcheck(L, len <= INT32_MAX / CHAR_MAX_BYTES, AT_TEXT, "longer than 512 MiB");
  lua_settop(L, 1);
  const utf8proc_uint8_t *clean = push_clean(L, text, len, &segments);
  if (self->segmenter != NULL && segments > 0) clean = push_segmented(L, self->segmenter, clean, &len, segments);
  else lua_pushnil(L);
  const utf8proc_int32_t *characters = push_characters(L, clean, len, &count);
  lua_newtable(L);
  lua_newtable(L);
  add_words(L, self->stemmer, characters, count);
  return 2;
}

/* --- Analysers --------------------------------------------------------------------------------------------------- */

static int analyser_gc(lua_State *L) {
  struct analyser *self = luaL_checkudata(L, 1, ANALYSER_TYPE);
  if (self->stemmer != NULL) sb_stemmer_delete(self->stemmer);
  self->stemmer = NULL;
  flume_segmenter_free(self->segmenter);
  self->segmenter = NULL;
  return 0;
}

static bool is_language(const char *name) {
  for (const char **each = sb_stemmer_list(); *each != NULL; each++) {
    if (strcmp(*each, name) == 0) return true;
  }
  return false;
}

static int analyser(lua_State *L) {
  const char *language = luaL_optstring(L, 1, NULL);
  if (language != NULL && !is_language(language)) return luaL_error(L, "no stemmer for the language %s", language);
  struct analyser *self = lua_newuserdatauv(L, sizeof *self, 0);
  *self = (struct analyser){.stemmer = NULL};
  luaL_setmetatable(L, ANALYSER_TYPE);
  self->segmenter = flume_segmenter_new();
  if (language != NULL) {
    self->stemmer = sb_stemmer_new(language, "UTF_8");
    if (self->stemmer == NULL) return luaL_error(L, "not enough memory");
  }
  lua_pushcclosure(L, analyse, 1);
  return 1;
}

static int languages(lua_State *L) {
  lua_Integer count = 0;
  lua_newtable(L);
  for (const char **each = sb_stemmer_list(); *each != NULL; each++) {
    lua_pushstring(L, *each);
    lua_rawseti(L, -2, ++count);
  }
  return 1;
}

static void set_version(lua_State *L) {
  char icu[32];
  flume_segmenter_version(icu);
  lua_pushfstring(L, "%d, Unicode %s%s%s", ANALYSIS, utf8proc_unicode_version(), icu[0] != '\0' ? ", ICU " : "", icu);
  lua_setfield(L, -2, "version");
  lua_pushboolean(L, icu[0] != '\0');
  lua_setfield(L, -2, "segments");
}

__attribute__((visibility("default"))) int luaopen_flume_text(lua_State *L) {
  static const luaL_Reg functions[] = {{"analyser", analyser}, {"languages", languages}, {NULL, NULL}};
  luaL_newmetatable(L, ANALYSER_TYPE);
  lua_pushcfunction(L, analyser_gc);
  lua_setfield(L, -2, "__gc");
  lua_pop(L, 1);
  luaL_newlib(L, functions);
  set_version(L);
  return 1;
}
