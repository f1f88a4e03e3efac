/*
 * tests/unit/ctl/dns_msg_test.c - answers byte by byte, and what a stranger may send instead of a
 * query.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "ctl/dns_msg.h"

static char asked[CTL_DNS_NAME_MAX];

/* "many.x" has 100 addresses, "one.x" one, "none.x" none. */
static bool look_up(void *ctx, lt_str name, uint32_t *addrs, size_t *ret_count)
{
    (void)ctx;
    memcpy(asked, name.ptr, name.len);
    asked[name.len] = '\0';
    size_t count = lt_str_eqz(name, "many.x") ? 100 : lt_str_eqz(name, "one.x") ? 1 : 0;
    for (size_t i = 0; i < count; i++)
        addrs[i] = 0x0a000001 + (uint32_t)i;
    *ret_count = count;
    return count > 0 || lt_str_eqz(name, "none.x");
}

#define HEAD "\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00"
#define ONE "\x03ONE\x01x\x00"
#define MANY "\x04many\x01x\x00"
#define A_IN "\x00\x01\x00\x01"

static unsigned char out[CTL_DNS_TCP_MAX];

static size_t ask(const char *bytes, size_t len, bool is_udp)
{
    size_t answered;
    memset(out, 0xee, sizeof(out));
    ctl_dns_answer(lt_str_make(bytes, len), is_udp, look_up, NULL, out,
                   is_udp ? CTL_DNS_UDP_MAX : sizeof(out), &answered);
    return answered;
}
#define ASK(bytes) ask(bytes, sizeof(bytes) - 1, true)

static void an_address(void **state)
{
    (void)state;
    static const char expected[] =
        "\x12\x34\x85\x80\x00\x01\x00\x01\x00\x00\x00\x00" ONE A_IN
        "\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x05\x00\x04\x0a\x00\x00\x01";
    assert_int_equal(ASK(HEAD ONE A_IN), sizeof(expected) - 1);
    assert_memory_equal(out, expected, sizeof(expected) - 1);
    assert_string_equal(asked, "one.x");
}

static void no_record_of_that_type(void **state)
{
    (void)state;
    ASK(HEAD ONE "\x00\x1c\x00\x01"); /* AAAA of a name that is there: no error, no answer */
    assert_int_equal(out[3] & 15, 0);
    assert_int_equal(out[7], 0);
    ASK(HEAD "\x04none\x01x\x00" A_IN);
    assert_int_equal(out[3] & 15, 0);
    assert_int_equal(out[7], 0);
}

static void unknown_names(void **state)
{
    (void)state;
    ASK(HEAD "\x05other\x00" A_IN);
    assert_int_equal(out[3] & 15, 3);
    ASK(HEAD ONE "\x00\x01\x00\x03"); /* class CHAOS */
    assert_int_equal(out[3] & 15, 3);
    ASK(HEAD "\x00" A_IN); /* the root */
    assert_int_equal(out[3] & 15, 3);
}

static void many_are_cut_over_udp(void **state)
{
    (void)state;
    size_t len = ASK(HEAD MANY A_IN);
    assert_true(len <= 512 && (out[2] & 2) != 0);
    assert_int_equal(out[7], (512 - 24) / 16);
    assert_int_equal(ask(HEAD MANY A_IN, sizeof(HEAD MANY A_IN) - 1, false), 12 + 8 + 4 + 100 * 16);
    assert_int_equal(out[2] & 2, 0);
}

static void edns_sizes(void **state)
{
    (void)state;
    static const char query[] = "\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x01" MANY A_IN
                                "\x00\x00\x29\xff\xff\x00\x00\x00\x00\x00\x00";
    size_t len = ask(query, sizeof(query) - 1, true);
    assert_true(len > 512 && len <= CTL_DNS_UDP_MAX);
    assert_int_equal(out[11], 1);
    assert_memory_equal(out + len - 11, "\x00\x00\x29\x04\xd0", 5);
}

static void no_answer_is_due(void **state)
{
    (void)state;
    assert_int_equal(ASK(""), 0);
    assert_int_equal(ASK("\x12\x34\x01\x00\x00\x01"), 0);
    assert_int_equal(ASK("\x12\x34\x81\x00\x00\x01\x00\x00\x00\x00\x00\x00" ONE A_IN),
                     0); /* an answer: never answered, or two would talk for ever */
}

static void broken_ones(void **state)
{
    (void)state;
    ASK(HEAD "\x03ON");
    assert_int_equal(out[3] & 15, 1);
    ASK(HEAD ONE "\x00");
    assert_int_equal(out[3] & 15, 1);
    ASK(HEAD "\xc0\x0c" A_IN); /* a pointer in a question, at itself */
    assert_int_equal(out[3] & 15, 1);
    ASK("\x12\x34\x01\x00\x00\x02\x00\x00\x00\x00\x00\x00" ONE A_IN ONE A_IN);
    assert_int_equal(out[3] & 15, 1);
    ASK("\x12\x34\x28\x00\x00\x01\x00\x00\x00\x00\x00\x00" ONE A_IN); /* UPDATE */
    assert_int_equal(out[3] & 15, 4);

    char longest[12 + 5 * 64 + 5] = HEAD;
    for (size_t i = 0; i < 5; i++)
        longest[12 + i * 64] = 63;
    assert_true(ask(longest, sizeof(longest), true) > 0);
    assert_int_equal(out[3] & 15, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_address),    cmocka_unit_test(no_record_of_that_type),
        cmocka_unit_test(unknown_names), cmocka_unit_test(many_are_cut_over_udp),
        cmocka_unit_test(edns_sizes),    cmocka_unit_test(no_answer_is_due),
        cmocka_unit_test(broken_ones)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
