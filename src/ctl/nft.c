/*
 * ctl/nft.c - over libnftables. A context a call: it binds to the network namespace it was made in.
 */
#include "ctl/nft.h"

#include <nftables/libnftables.h>

lt_rc ctl_nft_apply(const char *ruleset, struct lt_err *err)
{
    struct nft_ctx *nft = nft_ctx_new(NFT_CTX_DEFAULT);
    if (nft == NULL)
        return lt_err_errno(err, "nftables");
    nft_ctx_buffer_error(nft);
    nft_ctx_buffer_output(nft);
    lt_rc rc = LT_OK;
    if (nft_run_cmd_from_buffer(nft, ruleset) != 0)
        rc = lt_err_set(err, LT_E_IO, "nftables: %s", nft_ctx_get_error_buffer(nft));
    nft_ctx_free(nft);
    return rc;
}
