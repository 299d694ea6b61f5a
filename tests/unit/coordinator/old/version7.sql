BEGIN TRANSACTION;
CREATE TABLE anchor (
	id INTEGER NOT NULL, 
	root VARCHAR NOT NULL, 
	size INTEGER NOT NULL, 
	since_block BIGINT NOT NULL, 
	anchor_id BIGINT, 
	block BIGINT, 
	tx_hash VARCHAR, 
	PRIMARY KEY (id)
);
INSERT INTO "anchor" VALUES(1,'0x728984160124c9e00a255e2a5a1f2cc0a9757148f7f316992f0876fec73fbf6e',2,10,0,11,'0x482b56b1814a3fe035181a6b946881b6575c209fdaa3daf1f2a0c5d99a63a115');
CREATE TABLE anchor_leaf (
	task_id VARCHAR NOT NULL, 
	anchor INTEGER NOT NULL, 
	leaf_index INTEGER NOT NULL, 
	path TEXT NOT NULL, 
	PRIMARY KEY (task_id), 
	FOREIGN KEY(task_id) REFERENCES task (task_id), 
	FOREIGN KEY(anchor) REFERENCES anchor (id)
);
INSERT INTO "anchor_leaf" VALUES('0xcc93f6e2d850410df89e52d24ae25c07af581bf872dec0c9f75e309f044a9a52',1,0,'0x0ea8e5654c53233597dec00256479f173c3beda778875d1110138ed2863be7c5');
INSERT INTO "anchor_leaf" VALUES('0x7887f41c1f489774886cec72019c5b66c45d840d4bccd86b61e2090a62ed5805',1,1,'0x5d31117d7839b65fd0e492fc7cf9fcd597d311c27a26a8dec127ae0800dbe75c');
CREATE TABLE certified_record (
	task_id VARCHAR NOT NULL, 
	record_index BIGINT NOT NULL, 
	tx_hash VARCHAR, 
	PRIMARY KEY (task_id, record_index), 
	FOREIGN KEY(task_id) REFERENCES task (task_id)
);
CREATE TABLE commitment (
	lease_id VARCHAR NOT NULL, 
	task_id VARCHAR NOT NULL, 
	statement_digest VARCHAR NOT NULL, 
	since_block BIGINT, 
	attempt INTEGER, 
	block BIGINT, 
	tx_hash VARCHAR, 
	challenge_block_hash VARCHAR, 
	PRIMARY KEY (lease_id), 
	FOREIGN KEY(lease_id) REFERENCES lease (lease_id), 
	FOREIGN KEY(task_id) REFERENCES task (task_id)
);
INSERT INTO "commitment" VALUES('87a9ab9197b6e4a1730629c349b88481','0xdb76659825995e28a5e3dcc78d6d46ffe72a0ccaf56f7fbf2cd8ca1bbe408b34','0xcee387ecbc389a7df3818653d67de1cab4acb21d937644e91cdf1c7b1e48cd1b',12,1,13,'0x5d195beffa27c0b455ab5d5c9fbf8b259f9583f41614ca8f122d777137a1ed99',NULL);
CREATE TABLE dataset (
	digest VARCHAR NOT NULL, 
	owner VARCHAR NOT NULL, 
	shape VARCHAR NOT NULL, 
	PRIMARY KEY (digest)
);
INSERT INTO "dataset" VALUES('0x8404109a27f5f49ffc8d83ca055c28e0e7d7135f79a2a0d4661dee0613e3fc25','0x6813Eb9362372EEF6200f3b1dbC3f819671cBA69','5 4');
CREATE TABLE fault (
	id INTEGER NOT NULL, 
	task_id VARCHAR NOT NULL, 
	worker VARCHAR NOT NULL, 
	at BIGINT NOT NULL, 
	outcome TEXT NOT NULL, 
	code VARCHAR NOT NULL, 
	detail TEXT NOT NULL, 
	committed BOOLEAN NOT NULL, 
	helping BOOLEAN NOT NULL, 
	PRIMARY KEY (id), 
	FOREIGN KEY(task_id) REFERENCES task (task_id)
);
INSERT INTO "fault" VALUES(1,'0x382707c17cedc0dcbbffeb4d3411ab28611a1ce17ede53cce29673da51db3130','0xe1AB8145F7E55DC933d51a18c793F901A3A0b276',1800000000000,'gave-up','too-large','no room',0,0);
CREATE TABLE job (
	job_id VARCHAR NOT NULL, 
	requester VARCHAR NOT NULL, 
	submitted_at BIGINT NOT NULL, 
	state TEXT NOT NULL, 
	request TEXT NOT NULL, 
	signature VARCHAR NOT NULL, 
	rung_claim TEXT, 
	certifying BOOLEAN NOT NULL, 
	output_width INTEGER, 
	reason TEXT, 
	certificate_digest VARCHAR, 
	PRIMARY KEY (job_id)
);
INSERT INTO "job" VALUES('0xfde998ce760b853f7a19214e7bf6c276cd736d8bcaac7b3dccf609b1975c7263','0x6813Eb9362372EEF6200f3b1dbC3f819671cBA69',1800000000000,'certified','{"circuit":{"inputLength":0,"inputScale":0,"outputLength":0,"outputScale":0,"settingsDigest":"0x0000000000000000000000000000000000000000000000000000000000000000","srsDigest":"0x0000000000000000000000000000000000000000000000000000000000000000","visibility":"none","vkDigest":"0x0000000000000000000000000000000000000000000000000000000000000000","vkaDigest":"0x0000000000000000000000000000000000000000000000000000000000000000"},"coordinator":"0x7E5F4552091A69125d5DfCb7b8C2659029395Bdf","datasetDigest":"0x8404109a27f5f49ffc8d83ca055c28e0e7d7135f79a2a0d4661dee0613e3fc25","inputRoot":"0x9de682e0fdc3a018558d7f69b99991c517640fff44b1918ffde9a82b9f80d3f6","inputSize":5,"keyEpoch":1,"kind":"evaluation","modelDigest":"0x3d0efd6c0344ae68ad52003a68e06226e1592c148020ddc0a3bfa3297af80f77","nonce":"0x6881efc899e97d9e1e5f13239cf82d441e669b4f78b79d3fe25b86e82874e015","policy":{"absToleranceE9":0,"certifyOnChain":false,"maxAttempts":2,"relToleranceE9":0,"rung":"ee-outsourced","sampleSize":2,"shardSize":3,"tier":"commit","validators":0},"recordCount":5,"recordStart":0,"requester":"0x6813Eb9362372EEF6200f3b1dbC3f819671cBA69"}
','0x7450c16c22ba9c784bd078f320a302692bd35e98c71baa77f6fced39d32839565cb6f2bec98cbc88d81ecc5c850ead61186b8c603932604d7fd308ed741bf2981c',NULL,0,2,NULL,'0x316d5310de76f55b95600186132f6c83aba594ecaa06078e2617b01ecfdac92d');
INSERT INTO "job" VALUES('0xc940b9b73148ff5d47def0bb398e65208110200a62513362df96e80645f44319','0x6813Eb9362372EEF6200f3b1dbC3f819671cBA69',1800000000000,'failed','{"circuit":{"inputLength":0,"inputScale":0,"outputLength":0,"outputScale":0,"settingsDigest":"0x0000000000000000000000000000000000000000000000000000000000000000","srsDigest":"0x0000000000000000000000000000000000000000000000000000000000000000","visibility":"none","vkDigest":"0x0000000000000000000000000000000000000000000000000000000000000000","vkaDigest":"0x0000000000000000000000000000000000000000000000000000000000000000"},"coordinator":"0x7E5F4552091A69125d5DfCb7b8C2659029395Bdf","datasetDigest":"0x8404109a27f5f49ffc8d83ca055c28e0e7d7135f79a2a0d4661dee0613e3fc25","inputRoot":"0x9de682e0fdc3a018558d7f69b99991c517640fff44b1918ffde9a82b9f80d3f6","inputSize":5,"keyEpoch":1,"kind":"evaluation","modelDigest":"0x3d0efd6c0344ae68ad52003a68e06226e1592c148020ddc0a3bfa3297af80f77","nonce":"0x5d28a90f4498a81461efbaf6f628a19d9778390bb5c81a393dd936181cc3d826","policy":{"absToleranceE9":0,"certifyOnChain":false,"maxAttempts":2,"relToleranceE9":0,"rung":"ee-outsourced","sampleSize":2,"shardSize":3,"tier":"commit","validators":0},"recordCount":5,"recordStart":0,"requester":"0x6813Eb9362372EEF6200f3b1dbC3f819671cBA69"}
','0x1aaf48d2109fe178b4d9da6fa4c46fbf6295e4c23e15f586910ba27eaa7f5e687addf1d15b6830dfa12cf7d92b4635d622178c3692f5f1db10e8f23d487b8a6b1c',NULL,0,NULL,'cancelled by its requester',NULL);
INSERT INTO "job" VALUES('0x81322122b594bd8a874a06b4aee253f6b25541105b97c69e00a345518c624da2','0x6813Eb9362372EEF6200f3b1dbC3f819671cBA69',1800000000000,'running','{"circuit":{"inputLength":0,"inputScale":0,"outputLength":0,"outputScale":0,"settingsDigest":"0x0000000000000000000000000000000000000000000000000000000000000000","srsDigest":"0x0000000000000000000000000000000000000000000000000000000000000000","visibility":"none","vkDigest":"0x0000000000000000000000000000000000000000000000000000000000000000","vkaDigest":"0x0000000000000000000000000000000000000000000000000000000000000000"},"coordinator":"0x7E5F4552091A69125d5DfCb7b8C2659029395Bdf","datasetDigest":"0x8404109a27f5f49ffc8d83ca055c28e0e7d7135f79a2a0d4661dee0613e3fc25","inputRoot":"0x9de682e0fdc3a018558d7f69b99991c517640fff44b1918ffde9a82b9f80d3f6","inputSize":5,"keyEpoch":1,"kind":"evaluation","modelDigest":"0x3d0efd6c0344ae68ad52003a68e06226e1592c148020ddc0a3bfa3297af80f77","nonce":"0xeaeb8b1be5ae0d597b3691a6b21ef8c73d5954fc01928502f7c9c077474afbaa","policy":{"absToleranceE9":0,"certifyOnChain":false,"maxAttempts":2,"relToleranceE9":0,"rung":"ee-outsourced","sampleSize":2,"shardSize":3,"tier":"commit","validators":0},"recordCount":5,"recordStart":0,"requester":"0x6813Eb9362372EEF6200f3b1dbC3f819671cBA69"}
','0xf633476fd2e6bcc60d9ff3f1651fc6c218126f03ae71072b5dbae9bc19faf2bf26ddd242fcad2adde2936c429d18a105e6ebb18986ef3f54612a511112edeff31c',NULL,0,2,NULL,NULL);
INSERT INTO "job" VALUES('0x87e4622f48b3e78f6184b22475e172f986b2adf96bdda1a1634072c786b7b308','0x6813Eb9362372EEF6200f3b1dbC3f819671cBA69',1800000000000,'running','{"circuit":{"inputLength":4,"inputScale":7,"outputLength":2,"outputScale":7,"settingsDigest":"0xd9298a10d1b0735837dc4bd85dac641b0f3cef27a47e5d53a54f2f3f5b2fcffa","srsDigest":"0xd9298a10d1b0735837dc4bd85dac641b0f3cef27a47e5d53a54f2f3f5b2fcffa","visibility":"public","vkDigest":"0xd9298a10d1b0735837dc4bd85dac641b0f3cef27a47e5d53a54f2f3f5b2fcffa","vkaDigest":"0xd9298a10d1b0735837dc4bd85dac641b0f3cef27a47e5d53a54f2f3f5b2fcffa"},"coordinator":"0x7E5F4552091A69125d5DfCb7b8C2659029395Bdf","datasetDigest":"0x8404109a27f5f49ffc8d83ca055c28e0e7d7135f79a2a0d4661dee0613e3fc25","inputRoot":"0x9de682e0fdc3a018558d7f69b99991c517640fff44b1918ffde9a82b9f80d3f6","inputSize":5,"keyEpoch":1,"kind":"evaluation","modelDigest":"0x3d0efd6c0344ae68ad52003a68e06226e1592c148020ddc0a3bfa3297af80f77","nonce":"0x78377b525757b494427f89014f97d79928f3938d14eb51e20fb5dec9834eb304","policy":{"absToleranceE9":0,"certifyOnChain":false,"maxAttempts":3,"relToleranceE9":0,"rung":"ee-outsourced","sampleSize":2,"shardSize":5,"tier":"sampled","validators":0},"recordCount":5,"recordStart":0,"requester":"0x6813Eb9362372EEF6200f3b1dbC3f819671cBA69"}
','0xe455efba3dfe1a38f3b77fb4492d41337203401f857fb21110e16920a6eced2a4ac9b60d09f03b47b6d166a18f832544d8f90e04f73f68ee8d0e5c9c543b6ae71b',NULL,0,NULL,NULL,NULL);
CREATE TABLE job_blob (
	job_id VARCHAR NOT NULL, 
	digest VARCHAR NOT NULL, 
	PRIMARY KEY (job_id, digest), 
	FOREIGN KEY(job_id) REFERENCES job (job_id)
);
INSERT INTO "job_blob" VALUES('0xfde998ce760b853f7a19214e7bf6c276cd736d8bcaac7b3dccf609b1975c7263','0x8404109a27f5f49ffc8d83ca055c28e0e7d7135f79a2a0d4661dee0613e3fc25');
INSERT INTO "job_blob" VALUES('0xfde998ce760b853f7a19214e7bf6c276cd736d8bcaac7b3dccf609b1975c7263','0x3d0efd6c0344ae68ad52003a68e06226e1592c148020ddc0a3bfa3297af80f77');
INSERT INTO "job_blob" VALUES('0xc940b9b73148ff5d47def0bb398e65208110200a62513362df96e80645f44319','0x8404109a27f5f49ffc8d83ca055c28e0e7d7135f79a2a0d4661dee0613e3fc25');
INSERT INTO "job_blob" VALUES('0xc940b9b73148ff5d47def0bb398e65208110200a62513362df96e80645f44319','0x3d0efd6c0344ae68ad52003a68e06226e1592c148020ddc0a3bfa3297af80f77');
INSERT INTO "job_blob" VALUES('0x81322122b594bd8a874a06b4aee253f6b25541105b97c69e00a345518c624da2','0x8404109a27f5f49ffc8d83ca055c28e0e7d7135f79a2a0d4661dee0613e3fc25');
INSERT INTO "job_blob" VALUES('0x81322122b594bd8a874a06b4aee253f6b25541105b97c69e00a345518c624da2','0x3d0efd6c0344ae68ad52003a68e06226e1592c148020ddc0a3bfa3297af80f77');
INSERT INTO "job_blob" VALUES('0x87e4622f48b3e78f6184b22475e172f986b2adf96bdda1a1634072c786b7b308','0x8404109a27f5f49ffc8d83ca055c28e0e7d7135f79a2a0d4661dee0613e3fc25');
INSERT INTO "job_blob" VALUES('0x87e4622f48b3e78f6184b22475e172f986b2adf96bdda1a1634072c786b7b308','0x3d0efd6c0344ae68ad52003a68e06226e1592c148020ddc0a3bfa3297af80f77');
INSERT INTO "job_blob" VALUES('0x87e4622f48b3e78f6184b22475e172f986b2adf96bdda1a1634072c786b7b308','0xd9298a10d1b0735837dc4bd85dac641b0f3cef27a47e5d53a54f2f3f5b2fcffa');
CREATE TABLE lease (
	lease_id VARCHAR NOT NULL, 
	task_id VARCHAR NOT NULL, 
	worker VARCHAR NOT NULL, 
	nonce VARCHAR NOT NULL, 
	granted_at BIGINT NOT NULL, 
	progressed_at BIGINT NOT NULL, 
	expires_at BIGINT NOT NULL, 
	outcome TEXT NOT NULL, 
	progress VARCHAR, 
	PRIMARY KEY (lease_id), 
	FOREIGN KEY(task_id) REFERENCES task (task_id)
);
INSERT INTO "lease" VALUES('a18eb291184d633864b5cbff1f3b57dc','0xcc93f6e2d850410df89e52d24ae25c07af581bf872dec0c9f75e309f044a9a52','0x1efF47bc3a10a45D4B230B5d10E37751FE6AA718','0x115d90c5732df13c9fe192c83b50531401a45cf629588071073112780f1eb5c2',1800000000000,1800000000000,1800000060000,'accepted',NULL);
INSERT INTO "lease" VALUES('d49c8f2f8af542df64f15bd1a0745c8a','0x7887f41c1f489774886cec72019c5b66c45d840d4bccd86b61e2090a62ed5805','0x1efF47bc3a10a45D4B230B5d10E37751FE6AA718','0xfe71a4527eefc9b17117a6b8774bb7b827492bd68a8ea3022117fd033f2eeaf5',1800000000000,1800000000000,1800000060000,'accepted',NULL);
INSERT INTO "lease" VALUES('5bcc4575cb94c243b444ad8f30fd3a0c','0x382707c17cedc0dcbbffeb4d3411ab28611a1ce17ede53cce29673da51db3130','0xe1AB8145F7E55DC933d51a18c793F901A3A0b276','0x0e1175be4c4675692d772126b44e2fc59bf2c34a802de541be65eda9fd36e58b',1800000000000,1800000000000,1800000060000,'gave-up',NULL);
INSERT INTO "lease" VALUES('026350a0d431ea763559893115c7d31f','0x382707c17cedc0dcbbffeb4d3411ab28611a1ce17ede53cce29673da51db3130','0x1efF47bc3a10a45D4B230B5d10E37751FE6AA718','0x29b444a6486b312fd2ca4d738587d0736e2842635d1d771022662dd879e7ff39',1800000000000,1800000000000,1800000060000,'accepted',NULL);
INSERT INTO "lease" VALUES('4177b5036a7262c56e25f9f2a31f5962','0x145d4f8f0b36aea1f24276aa463305a578819cfa3b0fb50a38452993e8d58909','0x1efF47bc3a10a45D4B230B5d10E37751FE6AA718','0xa99a443bd8754a2ff56661a44685b1af8bf294e5ae491644013fa902b8a34c9f',1800000000000,1800000000000,1800000060000,'open','{"done":1,"stage":"commit","total":2}
');
INSERT INTO "lease" VALUES('87a9ab9197b6e4a1730629c349b88481','0xdb76659825995e28a5e3dcc78d6d46ffe72a0ccaf56f7fbf2cd8ca1bbe408b34','0xe1AB8145F7E55DC933d51a18c793F901A3A0b276','0x1c7aece752410d3cab21ba9f55258ea3278aa52ae8c2dcb9c18e243e36944ec4',1800000000000,1800000000000,1800000060000,'open',NULL);
CREATE TABLE login (
	message_digest VARCHAR NOT NULL, 
	expires_at BIGINT NOT NULL, 
	PRIMARY KEY (message_digest)
);
INSERT INTO "login" VALUES('0x46d452bf9d6c7610732fe658ed4c2040e2cbc9e78de80be05ec9a8396791ef12',1800000300000);
CREATE TABLE model (
	model_digest VARCHAR NOT NULL, 
	key_epoch BIGINT NOT NULL, 
	owner VARCHAR NOT NULL, 
	circuit TEXT NOT NULL, 
	vka TEXT NOT NULL, 
	needed_bytes BIGINT NOT NULL, 
	rung_claim TEXT, 
	PRIMARY KEY (model_digest, key_epoch)
);
INSERT INTO "model" VALUES('0x3d0efd6c0344ae68ad52003a68e06226e1592c148020ddc0a3bfa3297af80f77',1,'0x2B5AD5c4795c026514f8317c7a215E218DcCD6cF','{"inputLength":0,"inputScale":0,"outputLength":0,"outputScale":0,"settingsDigest":"0x0000000000000000000000000000000000000000000000000000000000000000","srsDigest":"0x0000000000000000000000000000000000000000000000000000000000000000","visibility":"none","vkDigest":"0x0000000000000000000000000000000000000000000000000000000000000000","vkaDigest":"0x0000000000000000000000000000000000000000000000000000000000000000"}
','',0,NULL);
CREATE TABLE piece (
	piece_id VARCHAR NOT NULL, 
	lease_id VARCHAR NOT NULL, 
	segment INTEGER NOT NULL, 
	records BIGINT NOT NULL, 
	needed_bytes BIGINT NOT NULL, 
	values_digest VARCHAR NOT NULL, 
	state TEXT NOT NULL, 
	worker VARCHAR, 
	progressed_at BIGINT NOT NULL, 
	expires_at BIGINT, 
	progress VARCHAR, 
	proofs_digest VARCHAR, 
	left_by TEXT NOT NULL, 
	reason TEXT, 
	PRIMARY KEY (piece_id), 
	FOREIGN KEY(lease_id) REFERENCES lease (lease_id)
);
CREATE TABLE reader (
	digest VARCHAR NOT NULL, 
	address VARCHAR NOT NULL, 
	PRIMARY KEY (digest, address)
);
INSERT INTO "reader" VALUES('0x3d0efd6c0344ae68ad52003a68e06226e1592c148020ddc0a3bfa3297af80f77','0x2B5AD5c4795c026514f8317c7a215E218DcCD6cF');
INSERT INTO "reader" VALUES('0x8404109a27f5f49ffc8d83ca055c28e0e7d7135f79a2a0d4661dee0613e3fc25','0x6813Eb9362372EEF6200f3b1dbC3f819671cBA69');
INSERT INTO "reader" VALUES('0x3d0efd6c0344ae68ad52003a68e06226e1592c148020ddc0a3bfa3297af80f77','0x6813Eb9362372EEF6200f3b1dbC3f819671cBA69');
INSERT INTO "reader" VALUES('0xae0ac1e0d554fda99ade9f21c80e9638e9e140f782c13d76ae9ec84d5da1f629','0x1efF47bc3a10a45D4B230B5d10E37751FE6AA718');
INSERT INTO "reader" VALUES('0xd45fb0a33b24b356e91b8fe71ad23da012640d776298e51585215745d846b27e','0x1efF47bc3a10a45D4B230B5d10E37751FE6AA718');
INSERT INTO "reader" VALUES('0xd9298a10d1b0735837dc4bd85dac641b0f3cef27a47e5d53a54f2f3f5b2fcffa','0x6813Eb9362372EEF6200f3b1dbC3f819671cBA69');
CREATE TABLE schema_version (
	version INTEGER NOT NULL, 
	PRIMARY KEY (version)
);
INSERT INTO "schema_version" VALUES(7);
CREATE TABLE secret (
	name VARCHAR NOT NULL, 
	value VARCHAR NOT NULL, 
	PRIMARY KEY (name)
);
INSERT INTO "secret" VALUES('sign-in messages','577c19d62388673918bd42554810eaad41eae17ec07e6198da9d2a1002643660');
CREATE TABLE task (
	task_id VARCHAR NOT NULL, 
	job_id VARCHAR NOT NULL, 
	start BIGINT NOT NULL, 
	count BIGINT NOT NULL, 
	tier VARCHAR NOT NULL, 
	needed_bytes BIGINT NOT NULL, 
	max_attempts INTEGER NOT NULL, 
	private_records VARCHAR, 
	submitted_at BIGINT NOT NULL, 
	state TEXT NOT NULL, 
	lease_id VARCHAR, 
	statement_digest VARCHAR, 
	evidence_digest VARCHAR, 
	outputs_digest VARCHAR, 
	verdict TEXT, 
	accepted_at BIGINT, 
	PRIMARY KEY (task_id), 
	FOREIGN KEY(job_id) REFERENCES job (job_id)
);
INSERT INTO "task" VALUES('0xcc93f6e2d850410df89e52d24ae25c07af581bf872dec0c9f75e309f044a9a52','0xfde998ce760b853f7a19214e7bf6c276cd736d8bcaac7b3dccf609b1975c7263',0,3,'commit',0,2,NULL,1800000000000,'anchored','a18eb291184d633864b5cbff1f3b57dc','0xdc850f1fde1655d3fb0bfa3d2b3dedbdf22bff8d7b37628ad7fb3d6426cbacaa','0xb701766da175951c7e92fc0ab1798335eff032811ee7039b2f6c960f9291d847','0xae0ac1e0d554fda99ade9f21c80e9638e9e140f782c13d76ae9ec84d5da1f629','{"accepted":true,"steps":[{"detail":"","name":"outputs, records 0\u20132","number":8,"status":"ok"},{"detail":"statement 0xdc850f1fde1655d3fb0bfa3d2b3dedbdf22bff8d7b37628ad7fb3d6426cbacaa signed by 0x1efF47bc3a10a45D4B230B5d10E37751FE6AA718","name":"statement and worker''s signature, records 0\u20132","number":7,"status":"ok"},{"detail":"0 of 3 records opened, 0 proved","name":"records that the tier asks for, records 0\u20132","number":8,"status":"ok"},{"detail":"0 records lead to input root 0x9de682e0fdc3a018558d7f69b99991c517640fff44b1918ffde9a82b9f80d3f6 and output root 0x8aa84c16f64bc15a16750062c36dd9662cb1e71c40f5c1393d7b3bbb9b19f7f9","name":"Merkle openings, records 0\u20132","number":9,"status":"ok"},{"detail":"","name":"roots rebuilt from every record, records 0\u20132","number":9,"status":"ok"}],"taskId":"0xcc93f6e2d850410df89e52d24ae25c07af581bf872dec0c9f75e309f044a9a52"}
',1800000000000);
INSERT INTO "task" VALUES('0x7887f41c1f489774886cec72019c5b66c45d840d4bccd86b61e2090a62ed5805','0xfde998ce760b853f7a19214e7bf6c276cd736d8bcaac7b3dccf609b1975c7263',3,2,'commit',0,2,NULL,1800000000000,'anchored','d49c8f2f8af542df64f15bd1a0745c8a','0x88d58583413334e7bb4ffbcfb853f0280c7c573e70f1c1fe01cd455a0192b05b','0xd705b8c2925eddd09d9e1fb1a7b89ae75042c34cf553828ca7ece365913a7419','0xd45fb0a33b24b356e91b8fe71ad23da012640d776298e51585215745d846b27e','{"accepted":true,"steps":[{"detail":"","name":"outputs, records 3\u20134","number":8,"status":"ok"},{"detail":"statement 0x88d58583413334e7bb4ffbcfb853f0280c7c573e70f1c1fe01cd455a0192b05b signed by 0x1efF47bc3a10a45D4B230B5d10E37751FE6AA718","name":"statement and worker''s signature, records 3\u20134","number":7,"status":"ok"},{"detail":"0 of 2 records opened, 0 proved","name":"records that the tier asks for, records 3\u20134","number":8,"status":"ok"},{"detail":"0 records lead to input root 0x9de682e0fdc3a018558d7f69b99991c517640fff44b1918ffde9a82b9f80d3f6 and output root 0xafee487cbea6c7ebc3c0a427b8ba58e625ee88a232de8b4562f319d5e28f9c53","name":"Merkle openings, records 3\u20134","number":9,"status":"ok"},{"detail":"","name":"roots rebuilt from every record, records 3\u20134","number":9,"status":"ok"}],"taskId":"0x7887f41c1f489774886cec72019c5b66c45d840d4bccd86b61e2090a62ed5805"}
',1800000000000);
INSERT INTO "task" VALUES('0x42a47d625ca2b63ff086e18b2d0e61f1c16f13c7e40abd1f1f9df1e33a0534da','0xc940b9b73148ff5d47def0bb398e65208110200a62513362df96e80645f44319',0,3,'commit',0,2,NULL,1800000000000,'failed',NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "task" VALUES('0xe276d66c6e18d283cf459ef37bc3bce0b394730d07941ff4d4b5b1315963b9c9','0xc940b9b73148ff5d47def0bb398e65208110200a62513362df96e80645f44319',3,2,'commit',0,2,NULL,1800000000000,'failed',NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "task" VALUES('0x382707c17cedc0dcbbffeb4d3411ab28611a1ce17ede53cce29673da51db3130','0x81322122b594bd8a874a06b4aee253f6b25541105b97c69e00a345518c624da2',0,3,'commit',0,2,NULL,1800000000000,'accepted','026350a0d431ea763559893115c7d31f','0x21beacc0e7dbad255bd0f712f480af2b76d832992e62b0aa9802f38e7e137b2e','0x239f1e825a7b6ece6d961ca40f6a260b22a0a07f185409ae4340e1735ff71b52','0xae0ac1e0d554fda99ade9f21c80e9638e9e140f782c13d76ae9ec84d5da1f629','{"accepted":true,"steps":[{"detail":"","name":"outputs, records 0\u20132","number":8,"status":"ok"},{"detail":"statement 0x21beacc0e7dbad255bd0f712f480af2b76d832992e62b0aa9802f38e7e137b2e signed by 0x1efF47bc3a10a45D4B230B5d10E37751FE6AA718","name":"statement and worker''s signature, records 0\u20132","number":7,"status":"ok"},{"detail":"0 of 3 records opened, 0 proved","name":"records that the tier asks for, records 0\u20132","number":8,"status":"ok"},{"detail":"0 records lead to input root 0x9de682e0fdc3a018558d7f69b99991c517640fff44b1918ffde9a82b9f80d3f6 and output root 0x8aa84c16f64bc15a16750062c36dd9662cb1e71c40f5c1393d7b3bbb9b19f7f9","name":"Merkle openings, records 0\u20132","number":9,"status":"ok"},{"detail":"","name":"roots rebuilt from every record, records 0\u20132","number":9,"status":"ok"}],"taskId":"0x382707c17cedc0dcbbffeb4d3411ab28611a1ce17ede53cce29673da51db3130"}
',1800000000000);
INSERT INTO "task" VALUES('0x145d4f8f0b36aea1f24276aa463305a578819cfa3b0fb50a38452993e8d58909','0x81322122b594bd8a874a06b4aee253f6b25541105b97c69e00a345518c624da2',3,2,'commit',0,2,NULL,1800000000000,'leased','4177b5036a7262c56e25f9f2a31f5962',NULL,NULL,NULL,NULL,NULL);
INSERT INTO "task" VALUES('0xdb76659825995e28a5e3dcc78d6d46ffe72a0ccaf56f7fbf2cd8ca1bbe408b34','0x87e4622f48b3e78f6184b22475e172f986b2adf96bdda1a1634072c786b7b308',0,5,'sampled',0,3,NULL,1800000000000,'leased','87a9ab9197b6e4a1730629c349b88481',NULL,NULL,NULL,NULL,NULL);
CREATE TABLE token (
	token_digest VARCHAR NOT NULL, 
	address VARCHAR NOT NULL, 
	expires_at BIGINT NOT NULL, 
	PRIMARY KEY (token_digest)
);
INSERT INTO "token" VALUES('0x1ca71275f7de50f9c600fcbc4c6258286a1a2e7ef89e46e1cd79b0c2e7532699','0x6813Eb9362372EEF6200f3b1dbC3f819671cBA69',1800043200000);
CREATE TABLE worker (
	address VARCHAR NOT NULL, 
	name VARCHAR NOT NULL, 
	provider VARCHAR NOT NULL, 
	tiers VARCHAR NOT NULL, 
	datasets TEXT NOT NULL, 
	memory_bytes BIGINT NOT NULL, 
	last_seen BIGINT NOT NULL, 
	PRIMARY KEY (address)
);
INSERT INTO "worker" VALUES('0x1efF47bc3a10a45D4B230B5d10E37751FE6AA718','old','CPUExecutionProvider','commit sampled','',1,1800000000000);
INSERT INTO "worker" VALUES('0xe1AB8145F7E55DC933d51a18c793F901A3A0b276','old','CPUExecutionProvider','commit sampled','',1,1800000000000);
CREATE INDEX ix_login_expires_at ON login (expires_at);
CREATE INDEX ix_token_expires_at ON token (expires_at);
CREATE INDEX ix_job_requester ON job (requester);
CREATE INDEX ix_job_submitted_at ON job (submitted_at);
CREATE INDEX ix_job_state ON job (state);
CREATE INDEX ix_job_blob_digest ON job_blob (digest);
CREATE INDEX ix_task_state ON task (state);
CREATE INDEX ix_task_job_id ON task (job_id);
CREATE INDEX ix_lease_task_id ON lease (task_id);
CREATE INDEX ix_lease_outcome ON lease (outcome);
CREATE INDEX ix_lease_worker ON lease (worker);
CREATE INDEX ix_lease_expires_at ON lease (expires_at);
CREATE INDEX ix_fault_task_id ON fault (task_id);
CREATE INDEX ix_fault_worker ON fault (worker);
CREATE INDEX ix_anchor_leaf_anchor ON anchor_leaf (anchor);
CREATE INDEX ix_piece_lease_id ON piece (lease_id);
CREATE INDEX ix_piece_state ON piece (state);
CREATE INDEX ix_piece_worker ON piece (worker);
CREATE INDEX ix_commitment_task_id ON commitment (task_id);
COMMIT;
