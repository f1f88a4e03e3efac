/*
 * base/regex.cc - the shim over RE2, which is the only C++ that lateen links.
 */
#include <re2/re2.h>

#include <string>

/* base/rc.h is C: its restrict-free macros and attributes read the same in C++ but for _Noreturn */
#define _Noreturn [[noreturn]]
extern "C" {
#include "base/regex.h"
}

namespace
{

/*
 * Envoy's default for re2.max_program_size.error_level is 100 for users' patterns; RE2 counts
 * instructions.
 */
constexpr int kProgramMax = 1000;
constexpr int64_t kMemoryMax = 1 << 20;

re2::StringPiece piece(lt_str s)
{
    return re2::StringPiece(s.ptr, s.len);
}

} // namespace

struct lt_regex {
    re2::RE2 re;
    lt_regex(lt_str pattern, const re2::RE2::Options &options) : re(piece(pattern), options)
    {
    }
};

extern "C" lt_rc lt_regex_new(lt_str pattern, lt_regex **ret_regex, lt_err *err)
{
    re2::RE2::Options options;
    options.set_log_errors(false);
    options.set_max_mem(kMemoryMax);
    lt_regex *regex = new lt_regex(pattern, options);
    if (!regex->re.ok()) {
        lt_rc rc = lt_err_set(err, LT_E_BAD, "bad regular expression '%.*s': %s",
                              LT_STR_ARG(pattern), regex->re.error().c_str());
        delete regex;
        return rc;
    }
    if (regex->re.ProgramSize() > kProgramMax) {
        lt_rc rc = lt_err_set(err, LT_E_LIMIT,
                              "regular expression '%.*s' is too large: %d instructions, limit %d",
                              LT_STR_ARG(pattern), regex->re.ProgramSize(), kProgramMax);
        delete regex;
        return rc;
    }
    *ret_regex = regex;
    return LT_OK;
}

extern "C" void lt_regex_free(lt_regex **regex)
{
    delete *regex;
    *regex = nullptr;
}

extern "C" bool lt_regex_matches(const lt_regex *regex, lt_str text)
{
    return re2::RE2::FullMatch(piece(text), regex->re);
}

extern "C" bool lt_regex_finds(const lt_regex *regex, lt_str text)
{
    return re2::RE2::PartialMatch(piece(text), regex->re);
}

extern "C" lt_rc lt_regex_replace(const lt_regex *regex, lt_str text, lt_str substitution,
                                  lt_buf *out)
{
    std::string result(text.ptr, text.len);
    std::string why;
    if (!regex->re.CheckRewriteString(piece(substitution), &why))
        return LT_E_BAD;
    re2::RE2::GlobalReplace(&result, regex->re, piece(substitution));
    return lt_buf_append(out, result.data(), result.size());
}
