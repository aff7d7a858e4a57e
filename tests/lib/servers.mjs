// SPDX-License-Identifier: MIT
// servers: lighttpd, Apache and nginx in front of a Site's broker and tunnel.
//
// The routes are those of the sample configurations in deploy/: /api/ goes to
// the broker over FastCGI, everything else to the tunnel.
import fs from "node:fs";
import path from "node:path";
import { spawnSync } from "node:child_process";

import { find_program, free_port, tcp_listening } from "./harness.mjs";

export const NAMES = ["lighttpd", "apache", "nginx"];
export const FRONTS = ["direct", ...NAMES];

function lighttpd_config(site, port, tls) {
	return `
server.modules = ("mod_fastcgi", "mod_proxy"${tls ? ', "mod_openssl"' : ""})
server.document-root = "${site.dir}"
server.bind = "127.0.0.1"
server.port = ${port}
server.errorlog = "${site.file("lighttpd-error.log")}"
server.feature-flags = ("server.h2proto" => "disable")
server.stream-response-body = 2
server.stream-request-body = 2
${tls ? `ssl.engine = "enable"
ssl.pemfile = "${tls.cert}"
ssl.privkey = "${tls.key}"` : ""}
$HTTP["url"] =~ "^/api/" {
	fastcgi.server = ("" => ((
		"socket" => "${site.broker_sock}",
		"check-local" => "disable"
	)))
} else {
	proxy.server = ("" => (("host" => "${site.tunnel_sock}")))
	proxy.header = ("upgrade" => "enable")
}
`;
}

function apache_config(site, port, tls) {
	const modules = apache_modules();
	const wanted = ["authz_core", "authz_host", "proxy", "proxy_http",
	    "proxy_fcgi", ...tls ? ["ssl", "socache_shmcb"] : []];
	const event = fs.existsSync(path.join(modules, "mod_mpm_event.so"));
	return `
ServerRoot "${site.dir}"
ServerName localhost
PidFile "${site.file("apache.pid")}"
DefaultRuntimeDir "${site.dir}"
Mutex file:${site.dir} default
ErrorLog "${site.file("apache-error.log")}"
${process.getuid() === 0 ? "User www-data\nGroup www-data" : ""}
LogLevel warn
Listen 127.0.0.1:${port}
LoadModule mpm_${event ? "event" : "prefork"}_module ${modules}/mod_mpm_${
	event ? "event" : "prefork"}.so
${wanted.map((m) => `LoadModule ${m}_module ${modules}/mod_${m}.so`).join("\n")}
StartServers 1
ServerLimit 4
MaxRequestWorkers 100
DocumentRoot "${site.dir}"
ProxyTimeout 120
${tls ? `SSLEngine on
SSLCertificateFile "${tls.cert}"
SSLCertificateKeyFile "${tls.key}"` : ""}
<Location "/api/">
	CGIPassAuth On
	ProxyPass "unix:${site.broker_sock}|fcgi://localhost/"
</Location>
ProxyPass "/api/" "!"
ProxyPass "/" "unix:${site.tunnel_sock}|http://localhost/" upgrade=websocket
`;
}

function apache_modules() {
	return ["/usr/lib/apache2/modules", "/usr/lib/httpd/modules"]
	    .find((dir) => fs.existsSync(dir));
}

function nginx_config(site, port, tls) {
	return `
${process.getuid() === 0 ? "user www-data;" : ""}
daemon off;
worker_processes 1;
pid ${site.file("nginx.pid")};
error_log ${site.file("nginx-error.log")} notice;
events { worker_connections 512; }
http {
	access_log off;
	client_body_temp_path ${site.file("nginx-body")};
	proxy_temp_path ${site.file("nginx-proxy")};
	fastcgi_temp_path ${site.file("nginx-fastcgi")};
	uwsgi_temp_path ${site.file("nginx-uwsgi")};
	scgi_temp_path ${site.file("nginx-scgi")};
	map $http_upgrade $connection_upgrade {
		default Upgrade;
		"" close;
	}
	server {
		listen 127.0.0.1:${port}${tls ? " ssl" : ""};
		${tls ? `ssl_certificate ${tls.cert};
		ssl_certificate_key ${tls.key};` : ""}
		location /api/ {
			fastcgi_pass unix:${site.broker_sock};
			fastcgi_param REQUEST_METHOD $request_method;
			fastcgi_param REQUEST_URI $request_uri;
			fastcgi_param SCRIPT_NAME $uri;
			fastcgi_param QUERY_STRING $query_string;
			fastcgi_param CONTENT_TYPE $content_type;
			fastcgi_param CONTENT_LENGTH $content_length;
			fastcgi_param SERVER_PROTOCOL $server_protocol;
			fastcgi_param REMOTE_ADDR $remote_addr;
			fastcgi_param REMOTE_PORT $remote_port;
			fastcgi_param SERVER_NAME $server_name;
			fastcgi_param SERVER_PORT $server_port;
			fastcgi_param HTTP_PROXY "";
		}
		location / {
			proxy_pass http://unix:${site.tunnel_sock}:;
			proxy_http_version 1.1;
			proxy_set_header Host $http_host;
			proxy_set_header Upgrade $http_upgrade;
			proxy_set_header Connection $connection_upgrade;
			proxy_set_header X-Forwarded-For
			    $proxy_add_x_forwarded_for;
			proxy_buffering off;
			proxy_read_timeout 120s;
			proxy_send_timeout 120s;
		}
	}
}
`;
}

const SERVERS = {
	lighttpd: {
		config: lighttpd_config,
		argv: (file) => [find_program("lighttpd"), "-D", "-f", file],
	},
	apache: {
		config: apache_config,
		argv: (file) =>
		    [find_program("apache2"), "-DFOREGROUND", "-f", file],
	},
	nginx: {
		config: nginx_config,
		argv: (file, site) => [find_program("nginx"), "-p", site.dir,
		    "-c", file, "-e", site.file("nginx-error.log")],
	},
};

// Start one; its front connects to 127.0.0.1 as a client would.
export async function start(site, name, { tls } = {}) {
	const server = SERVERS[name];
	for (let attempt = 0; ; attempt++) {
		const port = await free_port();
		const file = site.write(`${name}.conf`,
		    server.config(site, port, tls));
		for (const dir of ["body", "proxy", "fastcgi", "uwsgi", "scgi"])
			fs.mkdirSync(site.file(`nginx-${dir}`), { recursive: true });
		const part = site.start(name, server.argv(file, site));
		part.may_fail = true; // its exit status is its own affair
		part.hard = true;
		try {
			await part.listens(() => tcp_listening(port), "listens");
		} catch (err) {
			if (attempt < 4 && /in use|bind/i.test(part.output))
				continue;
			throw err;
		}
		return {
			name, port, part,
			where: { port, ...tls ? { tls: { ca: fs.readFileSync(tls.ca),
			    servername: "localhost" } } : {} },
			headers: { Host: `127.0.0.1:${port}` },
		};
	}
}

// A throw-away certification authority and a certificate of it.  Options:
// names (subjectAltName), expired, other_ca.
export function make_certificates(site, prefix, options = {}) {
	const file = (name) => site.file(`${prefix}-${name}`);
	const names = options.names ?? "DNS:localhost,IP:127.0.0.1";
	const openssl = (...args) => {
		const r = spawnSync("openssl", args, { encoding: "utf8" });
		if (r.status !== 0)
			throw new Error(`openssl ${args[0]}: ${r.stderr}`);
	};

	openssl("req", "-x509", "-newkey", "ec", "-pkeyopt",
	    "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", file("ca.key"),
	    "-out", file("ca.pem"), "-days", "2", "-subj", "/CN=test authority",
	    "-addext", "basicConstraints=critical,CA:true",
	    "-addext", "keyUsage=critical,keyCertSign,cRLSign");
	openssl("req", "-new", "-newkey", "ec", "-pkeyopt",
	    "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", file("key.pem"),
	    "-out", file("csr.pem"), "-subj", "/CN=server");
	fs.writeFileSync(file("ext"), `subjectAltName=${names}\n` +
	    "basicConstraints=CA:false\n");
	openssl("x509", "-req", "-in", file("csr.pem"), "-CA", file("ca.pem"),
	    "-CAkey", file("ca.key"), "-CAcreateserial", "-out",
	    file("cert.pem"), "-extfile", file("ext"),
	    ...(options.expired ? ["-days", "-1"] : ["-days", "2"]));
	fs.chmodSync(file("key.pem"), 0o644);
	return { ca: file("ca.pem"), cert: file("cert.pem"),
	    key: file("key.pem") };
}
