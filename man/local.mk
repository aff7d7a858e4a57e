dist_man_MANS += %D%/culvert-broker.8
dist_man_MANS += %D%/culvert-tunnel.8
dist_man_MANS += %D%/culvert.conf.5
dist_man_MANS += %D%/culvertctl.8
