/* Runs a fuzz target on files, without libFuzzer: on each file of the directories that are its arguments. Without
 * arguments the directory of test_fuzz_NAME is tests/fuzz/corpus/NAME. */
#include <dirent.h>
#include <string.h>

#include "fuzz.h"

static int passed;

static void run_file(const char *path) {
  static uint8_t data[1 << 20];
  FILE *file = fopen(path, "rb");
  if (file == NULL) return;
  size_t len = fread(data, 1, sizeof data, file);
  fclose(file);
  uint8_t *exact = malloc(len > 0 ? len : 1); /* a sanitizer then notices reads behind the end */
  if (exact == NULL) abort();
  memcpy(exact, data, len);
  fprintf(stderr, "%s\n", path);
  LLVMFuzzerTestOneInput(exact, len);
  free(exact);
  passed++;
}

static void run_dir(const char *dir) {
  char path[1024];
  DIR *entries = opendir(dir);
  if (entries == NULL) return;
  for (struct dirent *entry; (entry = readdir(entries)) != NULL;) {
    if (entry->d_name[0] == '.') continue;
    snprintf(path, sizeof path, "%s/%s", dir, entry->d_name);
    run_file(path);
  }
  closedir(entries);
}

int main(int argc, char **argv) {
  char dir[512];
  const char *name = strstr(argv[0], "test_fuzz_");
  for (int i = 1; i < argc; i++) run_dir(argv[i]);
  if (argc == 1 && name != NULL) {
    snprintf(dir, sizeof dir, "tests/fuzz/corpus/%s", name + strlen("test_fuzz_"));
    run_dir(dir);
  }
  printf("%d passed, %d failed, 0 skipped\n", passed, passed == 0);
  return passed == 0;
}
