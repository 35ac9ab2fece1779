/* The Kafka floor of `make bench`: librdkafka produces from memory the records that the proxy makes of its publishes
 * (same key, headers and size; idempotent, linger 5 ms). The payloads are those of `benches/load/payload.rs`.
 * usage: producer BOOTSTRAP TOPIC MESSAGES CLIENTS WINDOW SIZE CODEC
 * Prints two numbers: microseconds of CPU (user and system) per message, messages per second. */
#include "rdkafka.h"

#define PAYLOADS 1024

static long delivered, failed;

static void on_delivery(rd_kafka_t *kafka, const rd_kafka_message_t *message, void *opaque) {
    (void)kafka;
    (void)opaque;
    if (message->err) failed++;
    else delivered++;
}

/* What a vehicle might say, with numbers that differ from message to message; filled with 'x' or cut to `size`. */
static void write_payload(char *payload, long size, unsigned long long *state) {
    char text[160];
    unsigned long drawn[5];
    for (size_t i = 0; i < 5; i++) {
        *state = *state * 6364136223846793005ull + 1442695040888963407ull;
        drawn[i] = *state >> 33;
    }
    int length = snprintf(text, sizeof text, "{\"rpm\":%04lu,\"speed\":%03lu.%lu,\"lat\":%02lu.%06lu,\"lon\":%02lu.%06lu,\"fuel\":%02lu,\"seq\":%010lu}",
                          drawn[0] % 8000, drawn[0] / 8000 % 200, drawn[0] % 10, drawn[1] % 90, drawn[1] % 1000000,
                          drawn[2] % 90, drawn[2] % 1000000, drawn[3] % 100, drawn[4]);
    memset(payload, 'x', size);
    memcpy(payload, text, length < size ? length : size);
}

int main(int count, char **arguments) {
    if (count != 8) fail("usage", "BOOTSTRAP TOPIC MESSAGES CLIENTS WINDOW SIZE CODEC");
    const char *topic = arguments[2];
    long messages = atol(arguments[3]), clients = atol(arguments[4]), window = atol(arguments[5]), size = atol(arguments[6]);
    const char *pairs[][2] = {{"bootstrap.servers", arguments[1]}, {"enable.idempotence", "true"}, {"linger.ms", "5"},
                              {"compression.codec", arguments[7]}, {"queue.buffering.max.messages", "1000000"}};
    rd_kafka_conf_t *settings = configure(pairs, sizeof pairs / sizeof *pairs);
    rd_kafka_conf_set_dr_msg_cb(settings, on_delivery);
    rd_kafka_t *kafka = start(RD_KAFKA_PRODUCER, settings);
    /* Keys are placed by murmur2, as the proxy and the Java client do. */
    char why[512];
    rd_kafka_topic_conf_t *topic_settings = rd_kafka_topic_conf_new();
    if (rd_kafka_topic_conf_set(topic_settings, "partitioner", "murmur2_random", why, sizeof why)) fail("partitioner", why);
    rd_kafka_topic_t *handle = rd_kafka_topic_new(kafka, topic, topic_settings);
    if (!handle) fail(topic, rd_kafka_err2str(rd_kafka_last_error()));
    char *payloads = malloc(PAYLOADS * size), key[32], client[32];
    unsigned long long state = 1;
    for (long i = 0; i < PAYLOADS; i++) write_payload(payloads + i * size, size, &state);

    /* The connection and the metadata are there before the clock starts, as they are for the proxy. */
    partitions_of(kafka, handle);

    double start = seconds(), start_cpu = cpu();
    for (long i = 0; i < messages; i++) {
        while (i - delivered - failed >= window) rd_kafka_poll(kafka, 100);
        int key_length = snprintf(key, sizeof key, "v%ld", i % clients);
        int client_length = snprintf(client, sizeof client, "bench-%ld", i % clients);
        rd_kafka_headers_t *headers = rd_kafka_headers_new(2);
        rd_kafka_header_add(headers, "mqtt.client", 11, client, client_length);
        rd_kafka_header_add(headers, "sensor", 6, "rpm", 3);
        rd_kafka_resp_err_t error;
        while ((error = rd_kafka_producev(kafka, RD_KAFKA_V_RKT(handle), RD_KAFKA_V_KEY(key, key_length),
                                          RD_KAFKA_V_VALUE(payloads + i % PAYLOADS * size, size),
                                          RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY), RD_KAFKA_V_HEADERS(headers),
                                          RD_KAFKA_V_END)) == RD_KAFKA_RESP_ERR__QUEUE_FULL)
            rd_kafka_poll(kafka, 10);
        if (error) fail("produce", rd_kafka_err2str(error));
        if (i % 64 == 0) rd_kafka_poll(kafka, 0);
    }
    while (delivered + failed < messages) rd_kafka_poll(kafka, 100);
    double wall = seconds() - start, used = cpu() - start_cpu;
    if (failed) fail("delivery", "some messages failed");
    printf("%.4f %.0f\n", used * 1e6 / messages, messages / wall);
    rd_kafka_topic_destroy(handle);
    rd_kafka_destroy(kafka);
    free(payloads);
    return 0;
}
