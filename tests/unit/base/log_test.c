/*
 * tests/unit/base/log_test.c - one line is one line, whoever wrote what is in it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <unistd.h>

#include "base/log.h"

static size_t read_back(int fd, char *to, size_t room)
{
    ssize_t len = read(fd, to, room - 1);
    assert_true(len > 0);
    to[len] = '\0';
    return (size_t)len;
}

static void lines_stay_lines(void **state)
{
    (void)state;
    int ends[2];
    char text[4096], longest[4000];
    assert_int_equal(pipe(ends), 0);
    const struct lt_log log = {.fd = ends[1], .level = LT_LOG_INFO, .program = "test"};
    lt_log_info(&log, "node %s connected", "a\n2026-01-01T00:00:00.000000Z\terror\x1b[1m\x7f");
    size_t len = read_back(ends[0], text, sizeof(text));
    assert_ptr_equal(strchr(text, '\n'), text + len - 1);
    assert_non_null(
        strstr(text, "Z\tinfo\ttest\tnode a 2026-01-01T00:00:00.000000Z error [1m  connected"));
    lt_log_debug(&log, "not this");
    memset(longest, 'x', sizeof(longest));
    longest[sizeof(longest) - 1] = '\0';
    lt_log_error(&log, "%s", longest);
    len = read_back(ends[0], text, sizeof(text));
    assert_true(len < sizeof(longest) && text[len - 1] == '\n');
    close(ends[0]);
    close(ends[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(lines_stay_lines)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
