"""The event log on Apache Kafka, by aiokafka, which is known to no other module of Rejse."""
