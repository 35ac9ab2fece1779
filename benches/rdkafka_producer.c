/* The Kafka floor of `make bench`: librdkafka produces from memory the records that the proxy makes of its publishes
 * (same key, headers and size; idempotent, linger 5 ms, no compression).
 * usage: rdkafka_producer BOOTSTRAP TOPIC MESSAGES CLIENTS WINDOW SIZE
 * Prints two numbers: microseconds of CPU (user and system) per message, messages per second. */
#include <librdkafka/rdkafka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

static long delivered, failed;

static void on_delivery(rd_kafka_t *kafka, const rd_kafka_message_t *message, void *opaque) {
    (void)kafka;
    (void)opaque;
    if (message->err) failed++;
    else delivered++;
}

static void fail(const char *what, const char *why) {
    fprintf(stderr, "rdkafka_producer: %s: %s\n", what, why);
    exit(1);
}

static double seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec + now.tv_nsec / 1e9;
}

static double cpu(void) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return usage.ru_utime.tv_sec + usage.ru_stime.tv_sec + (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

int main(int count, char **arguments) {
    if (count != 7) fail("usage", "BOOTSTRAP TOPIC MESSAGES CLIENTS WINDOW SIZE");
    const char *topic = arguments[2];
    long messages = atol(arguments[3]), clients = atol(arguments[4]), window = atol(arguments[5]), size = atol(arguments[6]);
    char why[512];
    rd_kafka_conf_t *settings = rd_kafka_conf_new();
    const char *pairs[][2] = {{"bootstrap.servers", arguments[1]}, {"enable.idempotence", "true"}, {"linger.ms", "5"},
                              {"compression.codec", "none"}, {"queue.buffering.max.messages", "1000000"}};
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++)
        if (rd_kafka_conf_set(settings, pairs[i][0], pairs[i][1], why, sizeof why)) fail(pairs[i][0], why);
    rd_kafka_conf_set_dr_msg_cb(settings, on_delivery);
    rd_kafka_t *kafka = rd_kafka_new(RD_KAFKA_PRODUCER, settings, why, sizeof why);
    if (!kafka) fail("producer", why);
    /* Keys are placed by murmur2, as the proxy and the Java client do. */
    rd_kafka_topic_conf_t *topic_settings = rd_kafka_topic_conf_new();
    if (rd_kafka_topic_conf_set(topic_settings, "partitioner", "murmur2_random", why, sizeof why)) fail("partitioner", why);
    rd_kafka_topic_t *handle = rd_kafka_topic_new(kafka, topic, topic_settings);
    if (!handle) fail(topic, rd_kafka_err2str(rd_kafka_last_error()));
    char *payload = malloc(size), key[32], client[32];
    memset(payload, 'x', size);

    /* The connection and the metadata are there before the clock starts, as they are for the proxy. */
    const struct rd_kafka_metadata *metadata;
    if (rd_kafka_metadata(kafka, 0, handle, &metadata, 10000)) fail("metadata", "no answer");
    rd_kafka_metadata_destroy(metadata);

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
                                          RD_KAFKA_V_VALUE(payload, size), RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY),
                                          RD_KAFKA_V_HEADERS(headers), RD_KAFKA_V_END)) == RD_KAFKA_RESP_ERR__QUEUE_FULL)
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
    free(payload);
    return 0;
}
