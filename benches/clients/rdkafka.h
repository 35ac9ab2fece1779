/* What the producer and the consumer on librdkafka share. */
#include <librdkafka/rdkafka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

static void fail(const char *what, const char *why) {
    fprintf(stderr, "librdkafka: %s: %s\n", what, why);
    exit(1);
}

static double seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec + now.tv_nsec / 1e9;
}

/* User and system time of all threads. */
static double cpu(void) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return usage.ru_utime.tv_sec + usage.ru_stime.tv_sec + (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

static rd_kafka_conf_t *configure(const char *pairs[][2], size_t count) {
    char why[512];
    rd_kafka_conf_t *settings = rd_kafka_conf_new();
    for (size_t i = 0; i < count; i++)
        if (rd_kafka_conf_set(settings, pairs[i][0], pairs[i][1], why, sizeof why)) fail(pairs[i][0], why);
    return settings;
}

static rd_kafka_t *start(rd_kafka_type_t type, rd_kafka_conf_t *settings) {
    char why[512];
    rd_kafka_t *kafka = rd_kafka_new(type, settings, why, sizeof why);
    if (!kafka) fail("start", why);
    return kafka;
}

/* How many partitions the topic has; the connection is there after this. */
static int partitions_of(rd_kafka_t *kafka, rd_kafka_topic_t *topic) {
    const struct rd_kafka_metadata *metadata;
    if (rd_kafka_metadata(kafka, 0, topic, &metadata, 10000)) fail("metadata", "no answer");
    int partitions = metadata->topic_cnt == 1 ? metadata->topics[0].partition_cnt : 0;
    if (partitions == 0) fail("metadata", "no such topic");
    rd_kafka_metadata_destroy(metadata);
    return partitions;
}
