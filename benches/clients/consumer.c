/* The other Kafka floor of `make bench`: librdkafka reads a topic from its beginning and walks key, value and headers of each record.
 * usage: consumer BOOTSTRAP TOPIC MESSAGES
 * Prints three numbers: microseconds of CPU (user and system) per message, messages per second, bytes of all fields that were seen. */
#include "rdkafka.h"

#define TAKEN 1000

int main(int count, char **arguments) {
    if (count != 4) fail("usage", "BOOTSTRAP TOPIC MESSAGES");
    const char *topic = arguments[2];
    long messages = atol(arguments[3]), seen = 0, bytes = 0;
    const char *pairs[][2] = {{"bootstrap.servers", arguments[1]}, {"group.id", "bench"}, {"enable.auto.commit", "false"}};
    rd_kafka_t *kafka = start(RD_KAFKA_CONSUMER, configure(pairs, sizeof pairs / sizeof *pairs));
    rd_kafka_topic_t *handle = rd_kafka_topic_new(kafka, topic, NULL);
    int partitions = partitions_of(kafka, handle);
    rd_kafka_topic_partition_list_t *all = rd_kafka_topic_partition_list_new(partitions);
    for (int i = 0; i < partitions; i++) rd_kafka_topic_partition_list_add(all, topic, i)->offset = 0;
    rd_kafka_queue_t *queue = rd_kafka_queue_get_consumer(kafka);
    rd_kafka_message_t *taken[TAKEN];

    double start = seconds(), start_cpu = cpu();
    rd_kafka_resp_err_t error = rd_kafka_assign(kafka, all);
    if (error) fail("assign", rd_kafka_err2str(error));
    while (seen < messages) {
        ssize_t n = rd_kafka_consume_batch_queue(queue, 1000, taken, TAKEN);
        for (ssize_t i = 0; i < n; i++) {
            rd_kafka_message_t *message = taken[i];
            if (message->err) fail("consume", rd_kafka_message_errstr(message));
            bytes += message->key_len + message->len;
            rd_kafka_headers_t *headers;
            const char *name;
            const void *value;
            size_t size;
            if (!rd_kafka_message_headers(message, &headers))
                for (size_t at = 0; !rd_kafka_header_get_all(headers, at, &name, &value, &size); at++) bytes += strlen(name) + size;
            seen++;
            rd_kafka_message_destroy(message);
        }
    }
    double wall = seconds() - start, used = cpu() - start_cpu;
    printf("%.4f %.0f %ld\n", used * 1e6 / seen, seen / wall, bytes);
    rd_kafka_topic_partition_list_destroy(all);
    rd_kafka_queue_destroy(queue);
    rd_kafka_topic_destroy(handle);
    rd_kafka_consumer_close(kafka);
    rd_kafka_destroy(kafka);
    return 0;
}
