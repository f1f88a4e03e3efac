/*
 * tests/unit/proxy/telemetry_peer.h - x-envoy-peer-metadata as a sidecar sends it: a google.protobuf.Struct in base64.
 */
static const char telemetry_peer[] =
    "ChoKCkNMVVNURVJfSUQSDBoKS3ViZXJuZXRlcwqGAQoGTEFCRUxTEnwqegoOCgNhcHASBxoFZnJvbnQKKgofc2VydmljZS5pc3Rp"
    "by5pby9jYW5vbmljYWwtbmFtZRIHGgVmcm9udAorCiNzZXJ2aWNlLmlzdGlvLmlvL2Nhbm9uaWNhbC1yZXZpc2lvbhIEGgJ2MgoP"
    "Cgd2ZXJzaW9uEgQaAnYyChMKCU5BTUVTUEFDRRIGGgRzaG9wChEKBE5BTUUSCRoHZnJvbnQtMQoYCg1XT1JLTE9BRF9OQU1FEgca"
    "BWZyb250";
